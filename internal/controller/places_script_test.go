package controller

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire/schema"
)

// scriptPlaces are the commands that move leaders and replicas.
func (w *world) scriptPlaces(b *strings.Builder, d *datadriven.TestData, env Env) {
	switch d.Cmd {
	case "elect":
		req := kmsg.NewPtrElectLeadersRequest()
		typ := 0
		if d.HasArg("type") {
			d.ScanArgs(w.t.(*testing.T), "type", &typ)
		}
		req.Version, req.ElectionType, req.Topics = 2, int8(typ), nil
		if !d.HasArg("all") {
			req.Topics = []kmsg.ElectLeadersRequestTopic{}
		}
		for _, l := range lines(d.Input) {
			f := strings.Fields(l)
			n, _ := strconv.Atoi(f[1])
			req.Topics = append(req.Topics, kmsg.ElectLeadersRequestTopic{Topic: f[0], Partitions: []int32{int32(n)}})
		}
		records, resp := w.c.ElectLeaders(w.img, req, env)
		fmt.Fprintln(b, line("elect", resp.ErrorCode, nil))
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintln(b, line(fmt.Sprintf("%s-%d", t.Topic, p.Partition), p.ErrorCode, p.ErrorMessage))
			}
		}
		w.apply(b, records)
	case "reassign":
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		req.Version, req.AllowReplicationFactorChange = 1, !d.HasArg("fixed")
		for _, l := range lines(d.Input) {
			f := strings.Fields(l)
			n, _ := strconv.Atoi(f[1])
			p := kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: int32(n)}
			switch f[2] {
			case "cancel":
			case "none":
				p.Replicas = []int32{}
			default:
				p.Replicas = brokers(f[2])
			}
			req.Topics = append(req.Topics, kmsg.AlterPartitionAssignmentsRequestTopic{Topic: f[0], Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{p}})
		}
		records, resp := w.c.AlterPartitionReassignments(w.img, req, env)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintln(b, line(fmt.Sprintf("%s-%d", t.Topic, p.Partition), p.ErrorCode, p.ErrorMessage))
			}
		}
		w.apply(b, records)
	case "unregister":
		id := 0
		d.ScanArgs(w.t.(*testing.T), "id", &id)
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = int32(id)
		records, resp := w.c.UnregisterBroker(w.img, req, env)
		fmt.Fprintln(b, line("unregister", resp.ErrorCode, resp.ErrorMessage))
		w.apply(b, records)
	case "change":
		var records Records
		for _, l := range lines(d.Input) {
			f := strings.Fields(l)
			n, _ := strconv.Atoi(f[1])
			leader, _ := strconv.Atoi(f[2])
			ch := schema.NewPartitionChangeRecord()
			ch.TopicID, ch.PartitionID, ch.Leader, ch.Isr = w.img.Topic(f[0]).ID, int32(n), int32(leader), brokers(f[3])
			records.add(ch)
		}
		w.apply(b, records)
	}
}
