package telemetry

import (
	"errors"
	"fmt"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxMessages bounds the nested messages of one push: an empty one takes two bytes on the wire and about a hundred in memory.
	maxMessages = 200_000
	// maxNesting bounds how deep attributes may hold attributes.
	maxNesting = 16
)

var (
	errTooMany = errors.New("too many metrics, data points or attributes in one push")
	errTooDeep = errors.New("attributes are nested too deep")
)

// message says which fields of an OTLP message hold messages, so that they can be counted before any is made.
type message map[protowire.Number]message

// shapeOfMetrics is MetricsData, as far as it holds messages.
var shapeOfMetrics = func() message {
	value := message{}
	keyValue := message{2: value}
	value[5] = message{1: value}    // ArrayValue
	value[6] = message{1: keyValue} // KeyValueList
	exemplar := message{7: keyValue}
	number := message{7: keyValue, 5: exemplar}
	metric := message{
		5:  {1: number},                                                  // Gauge
		7:  {1: number},                                                  // Sum
		9:  {1: {9: keyValue, 8: exemplar}},                              // Histogram
		10: {1: {1: keyValue, 8: message{}, 9: message{}, 11: exemplar}}, // ExponentialHistogram
		11: {1: {7: keyValue, 6: message{}}},                             // Summary
		12: keyValue,                                                     // metadata
	}
	resource := message{1: keyValue, 3: message{}}
	scope := message{3: keyValue}
	return message{1: {1: resource, 2: {1: scope, 2: metric}}}
}()

// decode reads OTLP metrics. Memory is bounded by the size of b and maxMessages.
func decode(b []byte) (*metricspb.MetricsData, error) {
	left := maxMessages
	if err := shapeOfMetrics.count(b, &left, 0); err != nil {
		return nil, err
	}
	data := &metricspb.MetricsData{}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, data); err != nil {
		return nil, fmt.Errorf("not OTLP metrics: %w", err)
	}
	return data, nil
}

// count walks a message's fields.
func (m message) count(b []byte, left *int, depth int) error {
	if depth > maxNesting {
		return errTooDeep
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("not OTLP metrics: %w", protowire.ParseError(n))
		}
		b = b[n:]
		inner, nested := m[num]
		if nested && typ == protowire.BytesType {
			body, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("not OTLP metrics: %w", protowire.ParseError(n))
			}
			if *left--; *left < 0 {
				return errTooMany
			}
			if err := inner.count(body, left, depth+1); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return fmt.Errorf("not OTLP metrics: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	return nil
}
