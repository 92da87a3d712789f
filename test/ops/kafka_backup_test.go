package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/test/peer"
)

// What Apache Kafka holds is saved and comes back in Ottla: records at their offsets, transactions, and groups where they stood.
func TestBackupOfKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("starts JVMs")
	}
	k, err := peer.FetchKafka()
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	bin, err := peer.BuildOttla(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	from, err := k.StartKafka(ctx, peer.Options{Dir: t.TempDir(), HeapMB: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Kill()
	cl, err := kgo.NewClient(kgo.SeedBrokers(from.Addr), kgo.TransactionalID("tx"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if got, err := adm.CreateTopics(ctx, 1, 1, nil, "t"); err != nil || got.Error() != nil {
		t.Fatal(err, got.Error())
	}
	for round, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: fmt.Append(nil, round, "/", i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	at := kadm.Offsets{}
	at.AddOffset("t", 0, 13, -1)
	if got, err := adm.CommitOffsets(ctx, "g", at); err != nil || got.Error() != nil {
		t.Fatal(err, got.Error())
	}
	place := t.TempDir()
	if out := ok(t, from.Addr, "backup", "create", "--to", place); !strings.Contains(out, "topics") {
		t.Error(out)
	}
	ok(t, from.Addr, "backup", "verify", "--to", place)

	to, err := peer.StartOttla(ctx, bin, peer.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Kill()
	ok(t, to.Addr, "restore", "--from", place)
	read := func(addr string) (out []string) {
		c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for len(out) < 10 {
			f := c.PollFetches(ctx)
			if err := f.Err(); err != nil {
				t.Fatal(err)
			}
			f.EachRecord(func(r *kgo.Record) { out = append(out, fmt.Sprintf("%d:%s", r.Offset, r.Value)) })
		}
		return out
	}
	if want, have := read(from.Addr), read(to.Addr); strings.Join(want, " ") != strings.Join(have, " ") {
		t.Errorf("Kafka has %v, the restored topic %v", want, have)
	}
	there, err := kgo.NewClient(kgo.SeedBrokers(to.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	offsets, err := kadm.NewClient(there).FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := offsets.Lookup("t", 0); o.At != 13 {
		t.Errorf("the group stands at %d", o.At)
	}
}
