package loop

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/vfs"
)

// node is a controller on its log, as a broker has it.
type node struct {
	s *store.Store
	l *Loop
	c *controller.Controller
}

func startNode(t *testing.T, disk vfs.FS, newID func() metadata.UUID) *node {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := store.Open(store.Options{FS: disk, Clock: clock.Real{}, Logger: logger, LogDirs: []string{"/data"}, NodeID: -1, NewID: newID,
		Bootstrap: controller.Bootstrap(), SnapshotBytes: 4000})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{s: s, c: controller.New(s.NodeID(), config.MustNew(nil))}
	n.l = New(Options{Image: s.Image(), Proposer: s, Clock: clock.Real{}, Logger: logger, Committed: s.MaybeSnapshot})
	if err := n.l.Start(); err != nil {
		t.Fatal(err)
	}
	reg := controller.Registration{Broker: s.NodeID(), ClusterID: s.ClusterID(), Incarnation: newID(), Features: controller.SupportedFeatures(), LogDirs: []metadata.UUID{s.DirectoryID("/data")}}
	epoch, err := n.l.Do(context.Background(), func(img *metadata.Image, _ time.Time) ([]metadata.Versioned, any, error) {
		records, epoch, err := n.c.RegisterBroker(img, reg, controller.Env{})
		return records, epoch, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.l.Do(context.Background(), func(img *metadata.Image, _ time.Time) ([]metadata.Versioned, any, error) {
		records, err := n.c.UnfenceBroker(img, reg.Broker, epoch.(int64))
		return records, nil, err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// A node that loses power again and again keeps every topic that it said was created, leads it under a new epoch each
// time, and never goes back.
func TestNodeThroughPowerLoss(t *testing.T) {
	ids := uint64(1000)
	newID := func() (id metadata.UUID) { ids++; binary.BigEndian.PutUint64(id[8:], ids); return id }
	r := rand.New(rand.NewSource(1))
	disk := vfs.NewMem()
	created := 0
	for life := range 6 {
		n := startNode(t, disk, newID)
		for i := range created {
			p := n.l.Image().Partition(fmt.Sprint("topic-", i), 0)
			if p == nil {
				t.Fatalf("life %d: topic-%d is gone", life, i)
			}
			if born := i / 20; p.Leader != 1 || p.LeaderEpoch != int32(life-born) {
				t.Fatalf("life %d: topic-%d: leader %d epoch %d", life, i, p.Leader, p.LeaderEpoch)
			}
		}
		if b := n.l.Image().Broker(1); b.Fenced {
			t.Fatal("fenced")
		}
		for range 20 {
			reply, err := n.l.Do(context.Background(), func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
				req := kmsg.NewPtrCreateTopicsRequest()
				topic := kmsg.NewCreateTopicsRequestTopic()
				topic.Topic, topic.NumPartitions, topic.ReplicationFactor = fmt.Sprint("topic-", created), 2, 1
				req.Topics = append(req.Topics, topic)
				records, resp := n.c.CreateTopics(img, req, controller.Env{NowMs: now.UnixMilli(), NewID: newID})
				return records, resp, nil
			})
			if err != nil || reply.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode != 0 {
				t.Fatal(reply, err)
			}
			created++
		}
		next := disk.CrashClone(r, vfs.CrashOptions{Data: 0.5, Names: 0.5})
		n.l.Close()
		if err := n.s.Close(); err != nil {
			t.Fatal(err)
		}
		disk = next
	}
}
