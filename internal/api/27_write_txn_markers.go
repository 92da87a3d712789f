package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/wire"
)

// WriteTxnMarkers: v1-2. The ends of transactions, from another broker's coordinator or from an administrator who ends one that hangs.
// v2: the version of the producer's protocol.

func writeTxnMarkers(c *Call, q *kmsg.WriteTxnMarkersRequest) {
	type place struct{ marker, topic, partition int }
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	var places []place
	for i := range q.Markers {
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = q.Markers[i].ProducerID
		for j, t := range q.Markers[i].Topics {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = t.Topic
			for k, p := range t.Partitions {
				rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				rp.Partition = p
				rt.Partitions = append(rt.Partitions, rp)
				places = append(places, place{i, j, k})
			}
			rm.Topics = append(rm.Topics, rt)
		}
		resp.Markers = append(resp.Markers, rm)
	}
	g := newGather(len(places), func(errs []error) {
		for i, p := range places {
			resp.Markers[p.marker].Topics[p.topic].Partitions[p.partition].ErrorCode = wire.CodeOf(errs[i])
		}
		c.Reply(resp)
	})
	img := c.Image()
	for i, p := range places {
		m := &q.Markers[p.marker]
		t := &m.Topics[p.topic]
		if isGone(img, t.Topic, t.Partitions[p.partition]) {
			g.put(i, kerr.UnknownTopicOrPartition)
			continue
		}
		marker := coordinator.Marker{ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Committed}
		if c.Version >= 2 {
			marker.TransactionVersion = int16(m.TransactionVersion)
		}
		c.Markers.Write(t.Topic, t.Partitions[p.partition], marker, func(err error) { g.put(i, err) })
	}
}
