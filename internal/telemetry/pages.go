package telemetry

import (
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/ottla/ottla/internal/metadata"
)

// seriesPerClient are those that every client has beside what it pushes: who it is, and when it last pushed.
const seriesPerClient = 2

// pages keeps the newest values of what clients pushed, a page for each client instance, until the client has been silent for
// long. Sums that clients push as deltas are added up here, so that a page shows what a scraper expects: totals.
type pages struct {
	maxSeries, maxPerClient int

	mu     sync.Mutex
	byID   map[metadata.UUID]*page
	series int // of all pages, with those of the clients themselves
}

// page is one client instance's.
type page struct {
	client  Client
	id      string
	pushed  time.Time
	expires time.Time
	series  map[string]*series // by name and labels
}

// series is one line of a page, or a histogram.
type series struct {
	name   string
	kind   dto.MetricType
	labels []*dto.LabelPair // sorted by name
	value  float64
	hist   *histogram
}

// histogram counts are not cumulated: one for each bound, and one more.
type histogram struct {
	bounds []float64
	counts []uint64
	count  uint64
	sum    float64
}

func newPages(maxSeries, maxPerClient int) *pages {
	return &pages{maxSeries: maxSeries, maxPerClient: maxPerClient, byID: map[metadata.UUID]*page{}}
}

// put takes what a client pushed over; dropped are the data points for which there was no room.
func (ps *pages) put(now time.Time, id metadata.UUID, c *Client, ttl time.Duration, data *metricspb.MetricsData) (dropped int) {
	points, dropped := flatten(c, idText(id), data)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byID[id]
	if p == nil {
		if ps.series+seriesPerClient > ps.maxSeries {
			ps.expire(now)
		}
		if ps.series+seriesPerClient > ps.maxSeries {
			return dropped + len(points)
		}
		p = &page{id: idText(id), series: map[string]*series{}}
		ps.byID[id] = p
		ps.series += seriesPerClient
	}
	p.client, p.pushed, p.expires = *c, now, now.Add(ttl)
	for i := range points {
		pt := &points[i]
		if s := p.series[pt.key]; s != nil {
			s.take(pt)
			continue
		}
		if len(p.series) >= ps.maxPerClient || ps.series >= ps.maxSeries {
			dropped++
			continue
		}
		s := &series{name: pt.name, kind: pt.kind, labels: pt.labels}
		s.take(pt)
		p.series[pt.key] = s
		ps.series++
	}
	return dropped
}

// take adds a delta to the series or replaces its value.
func (s *series) take(p *point) {
	if p.hist != nil {
		if p.delta && s.hist != nil && slices.Equal(s.hist.bounds, p.hist.bounds) {
			for i, n := range p.hist.counts {
				s.hist.counts[i] += n
			}
			s.hist.count += p.hist.count
			s.hist.sum += p.hist.sum
			return
		}
		s.hist = p.hist
		return
	}
	if p.delta {
		s.value += p.value
	} else {
		s.value = p.value
	}
}

// expire drops the pages of clients that have been silent for long.
func (ps *pages) expire(now time.Time) {
	for id, p := range ps.byID {
		if now.After(p.expires) {
			ps.series -= len(p.series) + seriesPerClient
			delete(ps.byID, id)
		}
	}
}

func (ps *pages) count() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.series
}

// touch keeps the page of a client that pushed nothing new.
func (ps *pages) touch(now time.Time, id metadata.UUID, ttl time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.byID[id]; p != nil {
		p.pushed, p.expires = now, now.Add(ttl)
	}
}

// gather makes Prometheus' families of all pages, sorted by name. A name that clients push as different kinds is untyped; histograms
// give way to others of their name.
func (ps *pages) gather(now time.Time) []*dto.MetricFamily {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.expire(now)
	b := builder{byName: map[string]*dto.MetricFamily{}}
	for _, p := range ps.byID {
		who := clientLabels(&p.client, p.id)
		b.add("ottla_client_last_push_timestamp_seconds", "When a client instance last pushed metrics.", dto.MetricType_GAUGE, who, float64(p.pushed.UnixMilli())/1000)
		b.add("ottla_client_info", "Client instances that push metrics.", dto.MetricType_GAUGE, infoLabels(&p.client, who), 1)
		for _, s := range p.series {
			if s.hist == nil {
				b.add(s.name, pushedHelp, s.kind, s.labels, s.value)
			}
		}
	}
	for _, p := range ps.byID {
		for _, s := range p.series {
			if s.hist != nil {
				b.addHistogram(s)
			}
		}
	}
	return b.sorted()
}

const pushedHelp = "Pushed by clients."

// builder puts metrics into their families.
type builder struct{ byName map[string]*dto.MetricFamily }

func (b *builder) family(name, help string, kind dto.MetricType) *dto.MetricFamily {
	f := b.byName[name]
	if f == nil {
		f = &dto.MetricFamily{Name: &name, Help: &help, Type: kind.Enum()}
		b.byName[name] = f
	}
	return f
}

func (b *builder) add(name, help string, kind dto.MetricType, labels []*dto.LabelPair, value float64) {
	f := b.family(name, help, kind)
	if f.GetType() != kind && f.GetType() != dto.MetricType_UNTYPED {
		f.Type = dto.MetricType_UNTYPED.Enum()
		for _, m := range f.Metric {
			m.Untyped = &dto.Untyped{Value: proto.Float64(valueOf(m))}
			m.Gauge, m.Counter = nil, nil
		}
	}
	m := &dto.Metric{Label: labels}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: &value}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: &value}
	default:
		m.Untyped = &dto.Untyped{Value: &value}
	}
	f.Metric = append(f.Metric, m)
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return m.Untyped.GetValue()
}

func (b *builder) addHistogram(s *series) {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if f := b.byName[s.name+suffix]; f != nil && (suffix != "" || f.GetType() != dto.MetricType_HISTOGRAM) {
			return
		}
	}
	f := b.family(s.name, pushedHelp, dto.MetricType_HISTOGRAM)
	h := &dto.Histogram{SampleCount: proto.Uint64(s.hist.count), SampleSum: proto.Float64(s.hist.sum)}
	var sum uint64
	for i, bound := range s.hist.bounds {
		sum += s.hist.counts[i]
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCount: proto.Uint64(sum)})
	}
	f.Metric = append(f.Metric, &dto.Metric{Label: s.labels, Histogram: h})
}

func (b *builder) sorted() []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, len(b.byName))
	for _, f := range b.byName {
		slices.SortFunc(f.Metric, func(x, y *dto.Metric) int {
			return slices.CompareFunc(x.Label, y.Label, func(a, b *dto.LabelPair) int {
				if c := strings.Compare(a.GetName(), b.GetName()); c != 0 {
					return c
				}
				return strings.Compare(a.GetValue(), b.GetValue())
			})
		})
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y *dto.MetricFamily) int { return strings.Compare(x.GetName(), y.GetName()) })
	return out
}

// Gather gives the families of what clients pushed: it makes the manager a prometheus.Gatherer.
func (m *Manager) Gather() ([]*dto.MetricFamily, error) { return m.pages.gather(m.clock.Now()), nil }
