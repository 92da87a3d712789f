package remote

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/txn"
)

// markersAtOnce bounds the markers of one request.
const markersAtOnce = 5000

// markerWait is how long an answer is waited for: the leader waits as long for its followers.
const markerWait = 12 * time.Second

// Markers sends markers to the leaders of partitions on other brokers.
type Markers struct {
	ask    Ask
	ctx    context.Context
	cancel context.CancelFunc
	out    *gatherer[sentMarker]
}

type sentMarker struct {
	p      txn.Partition
	marker coordinator.Marker
	done   func(error)
}

// NewMarkers makes one that has nothing to send.
func NewMarkers(ask Ask) *Markers {
	m := &Markers{ask: ask}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.out = newGatherer(markersAtOnce, m.send)
	return m
}

// Send sends a marker to the node that leads a partition; done is called once it is on the node's disk and those of its followers, or with the
// reason why that is not known. It does not block.
func (m *Markers) Send(node int32, p txn.Partition, marker coordinator.Marker, done func(error)) {
	if !m.out.add(node, sentMarker{p, marker, done}) {
		done(context.Canceled)
	}
}

// Close ends what is under way.
func (m *Markers) Close() {
	m.cancel()
	m.out.close()
}

// send makes one request of many markers: an entry for each transaction.
func (m *Markers) send(node int32, items []sentMarker) {
	q := kmsg.NewPtrWriteTxnMarkersRequest()
	at := map[coordinator.Marker]int{}
	topics := map[coordinator.Marker]map[string]int{}
	for _, it := range items {
		i, ok := at[it.marker]
		if !ok {
			i = len(q.Markers)
			at[it.marker], topics[it.marker] = i, map[string]int{}
			e := kmsg.NewWriteTxnMarkersRequestMarker()
			e.ProducerID, e.ProducerEpoch, e.Committed = it.marker.ProducerID, it.marker.ProducerEpoch, it.marker.Commit
			e.CoordinatorEpoch, e.TransactionVersion = it.marker.CoordinatorEpoch, int8(it.marker.TransactionVersion)
			q.Markers = append(q.Markers, e)
		}
		e := &q.Markers[i]
		j, ok := topics[it.marker][it.p.Topic]
		if !ok {
			j = len(e.Topics)
			topics[it.marker][it.p.Topic] = j
			t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
			t.Topic = it.p.Topic
			e.Topics = append(e.Topics, t)
		}
		e.Topics[j].Partitions = append(e.Topics[j].Partitions, it.p.Partition)
	}
	ctx, cancel := context.WithTimeout(m.ctx, markerWait)
	defer cancel()
	resp, err := m.ask(ctx, node, q)
	verdicts := map[verdictKey]error{}
	if err == nil {
		r, ok := resp.(*kmsg.WriteTxnMarkersResponse)
		if !ok {
			err = fmt.Errorf("the answer to WriteTxnMarkers is a %T", resp)
		} else {
			collect(r, verdicts)
		}
	}
	for _, it := range items {
		e := err
		if e == nil {
			var ok bool
			if e, ok = verdicts[verdictKey{it.marker.ProducerID, it.p}]; !ok {
				e = fmt.Errorf("node %d does not say what became of the marker for %s-%d", node, it.p.Topic, it.p.Partition)
			}
		}
		it.done(e)
	}
}

// verdictKey is how an answer names a marker.
type verdictKey struct {
	producer int64
	p        txn.Partition
}

func collect(r *kmsg.WriteTxnMarkersResponse, into map[verdictKey]error) {
	for i := range r.Markers {
		for _, t := range r.Markers[i].Topics {
			for _, p := range t.Partitions {
				k := verdictKey{r.Markers[i].ProducerID, txn.Partition{Topic: t.Topic, Partition: p.Partition}}
				if old, twice := into[k]; !twice || old == nil { // two markers of one producer in one request: the worse counts for both
					into[k] = kerr.ErrorForCode(p.ErrorCode)
				}
			}
		}
	}
}
