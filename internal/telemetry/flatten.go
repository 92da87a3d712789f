package telemetry

import (
	"math"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

const (
	maxLabels     = 20  // of a series
	maxNameBytes  = 200 // of a metric or a label
	maxValueBytes = 256 // of a label; longer ones are cut
	maxBuckets    = 64  // of a histogram
)

// point is one data point of a push as a series sees it.
type point struct {
	key    string // name and labels
	name   string
	kind   dto.MetricType
	labels []*dto.LabelPair
	value  float64
	delta  bool
	hist   *histogram
}

// flatten makes points of OTLP metrics. Labels are the client's id and instance, the attributes of the data point and those of
// the resource. dropped are the points that have too many or too long names, or a kind there is no series for.
func flatten(c *Client, id string, data *metricspb.MetricsData) (points []point, dropped int) {
	who := clientLabels(c, id)
	for _, rm := range data.GetResourceMetrics() {
		resource := rm.GetResource().GetAttributes()
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				before := len(points)
				var all int
				points, all = flattenMetric(points, m, who, resource)
				dropped += all - (len(points) - before)
			}
		}
	}
	return points, dropped
}

// flattenMetric adds the points of one metric; all is how many it had.
func flattenMetric(points []point, m *metricspb.Metric, who []*dto.LabelPair, resource []*commonpb.KeyValue) (_ []point, all int) {
	name := metricName(m.GetName())
	add := func(attributes []*commonpb.KeyValue, p point) {
		all++
		labels, ok := labelsOf(who, attributes, resource)
		if name == "" || !ok {
			return
		}
		p.name, p.labels, p.key = name, labels, keyOf(name, labels)
		points = append(points, p)
	}
	switch d := m.GetData().(type) {
	case *metricspb.Metric_Gauge:
		for _, n := range d.Gauge.GetDataPoints() {
			add(n.GetAttributes(), point{kind: dto.MetricType_GAUGE, value: number(n)})
		}
	case *metricspb.Metric_Sum:
		kind := dto.MetricType_GAUGE
		if d.Sum.GetIsMonotonic() {
			kind = dto.MetricType_COUNTER
			name = counterName(name)
		}
		delta := isDelta(d.Sum.GetAggregationTemporality())
		for _, n := range d.Sum.GetDataPoints() {
			add(n.GetAttributes(), point{kind: kind, value: number(n), delta: delta})
		}
	case *metricspb.Metric_Histogram:
		delta := isDelta(d.Histogram.GetAggregationTemporality())
		for _, n := range d.Histogram.GetDataPoints() {
			h := histogramOf(n)
			if h == nil {
				all++
				continue
			}
			add(n.GetAttributes(), point{kind: dto.MetricType_HISTOGRAM, hist: h, delta: delta})
		}
	case *metricspb.Metric_ExponentialHistogram:
		all += len(d.ExponentialHistogram.GetDataPoints()) // no client of Kafka pushes these
	case *metricspb.Metric_Summary:
		all += len(d.Summary.GetDataPoints())
	}
	return points, all
}

func isDelta(t metricspb.AggregationTemporality) bool {
	return t == metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
}

func number(n *metricspb.NumberDataPoint) float64 {
	if i, ok := n.GetValue().(*metricspb.NumberDataPoint_AsInt); ok {
		return float64(i.AsInt)
	}
	return n.GetAsDouble()
}

// histogramOf reads a data point, nil where its counts do not fit its bounds.
func histogramOf(n *metricspb.HistogramDataPoint) *histogram {
	h := &histogram{bounds: n.GetExplicitBounds(), counts: n.GetBucketCounts(), count: n.GetCount(), sum: n.GetSum()}
	if len(h.counts) == 0 && len(h.bounds) == 0 {
		return h
	}
	if len(h.bounds) > maxBuckets || len(h.counts) != len(h.bounds)+1 || !slices.IsSorted(h.bounds) {
		return nil
	}
	for i, b := range h.bounds {
		if math.IsNaN(b) || i > 0 && b == h.bounds[i-1] {
			return nil
		}
	}
	return h
}

// metricName is a Prometheus name: org.apache.kafka.producer.record.send.total -> org_apache_kafka_producer_record_send_total.
// "" where there can be none. Names of the broker's own metrics are out of reach.
func metricName(s string) string {
	name := clean(s, true)
	for _, own := range []string{"ottla_", "kafka_", "go_", "process_", "promhttp_"} {
		if strings.HasPrefix(name, own) {
			return "client_" + name
		}
	}
	return name
}

// counterName ends as Prometheus' counters do.
func counterName(s string) string {
	if s == "" || strings.HasSuffix(s, "_total") {
		return s
	}
	return s + "_total"
}

func clean(s string, colon bool) string {
	if s == "" || len(s) > maxNameBytes {
		return ""
	}
	b := make([]byte, 0, len(s)+1)
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', colon && c == ':':
		case c >= '0' && c <= '9':
			if i == 0 {
				b = append(b, '_')
			}
		default:
			c = '_'
		}
		b = append(b, c)
	}
	return string(b)
}

func pair(name, value string) *dto.LabelPair {
	if len(value) > maxValueBytes {
		value = value[:maxValueBytes]
	}
	value = strings.ToValidUTF8(value, "?")
	return &dto.LabelPair{Name: &name, Value: &value}
}

// clientLabels say whose a series is.
func clientLabels(c *Client, id string) []*dto.LabelPair {
	return []*dto.LabelPair{pair("client_id", c.ID), pair("client_instance_id", id)}
}

func infoLabels(c *Client, who []*dto.LabelPair) []*dto.LabelPair {
	return append(slices.Clone(who), pair("client_software_name", c.SoftwareName), pair("client_software_version", c.SoftwareVersion), pair("client_source_address", c.Address))
}

// labelsOf joins labels; of two with the same name the first counts. They come sorted. ok is false when there are too many or one has a
// name that cannot be.
func labelsOf(who []*dto.LabelPair, lists ...[]*commonpb.KeyValue) (_ []*dto.LabelPair, ok bool) {
	labels := slices.Clone(who)
	for _, l := range lists {
		for _, kv := range l {
			name := clean(kv.GetKey(), false)
			if name == "" || name == "le" || strings.HasPrefix(name, "__") { // le is a histogram's own
				return nil, false
			}
			if slices.ContainsFunc(labels, func(p *dto.LabelPair) bool { return p.GetName() == name }) {
				continue
			}
			if len(labels) == maxLabels {
				return nil, false
			}
			labels = append(labels, pair(name, valueText(kv.GetValue())))
		}
	}
	slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return labels, true
}

func valueText(v *commonpb.AnyValue) string {
	switch x := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return x.StringValue
	case *commonpb.AnyValue_BoolValue:
		return strconv.FormatBool(x.BoolValue)
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(x.IntValue, 10)
	case *commonpb.AnyValue_DoubleValue:
		return strconv.FormatFloat(x.DoubleValue, 'g', -1, 64)
	}
	return ""
}

func keyOf(name string, labels []*dto.LabelPair) string {
	var b strings.Builder
	b.WriteString(name)
	for _, l := range labels {
		for _, s := range [2]string{l.GetName(), l.GetValue()} {
			b.WriteByte(0)
			b.WriteString(strconv.Itoa(len(s)))
			b.WriteByte(':')
			b.WriteString(s)
		}
	}
	return b.String()
}
