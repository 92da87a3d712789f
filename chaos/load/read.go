package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/chaos/history"
)

// joined puts records into events, neighbours of one writer into one. kind is Read or Final.
func joined(kind history.Kind, who string, committed bool, p kgo.FetchPartition, topic string, record func(history.Event)) {
	var run history.Event
	flush := func() {
		if run.N > 0 {
			record(run)
		}
		run.N = 0
	}
	for _, r := range p.Records {
		v, err := history.Parse(r.Value)
		if err != nil {
			flush()
			record(history.Event{Kind: kind, Who: who, Topic: topic, Partition: p.Partition, Offset: r.Offset, Committed: committed, Note: fmt.Sprintf("%.60q", r.Value)})
			continue
		}
		if run.N > 0 && v == run.Value.Next(run.N) && v.Txn == 0 && r.Offset == run.Offset+run.N {
			run.N++
			continue
		}
		flush()
		run = history.Event{Kind: kind, Who: who, Topic: topic, Partition: p.Partition, Offset: r.Offset, N: 1, Value: &v, Committed: committed}
	}
	flush()
}

func isolation(committed bool) kgo.Opt {
	if committed {
		return kgo.FetchIsolationLevel(kgo.ReadCommitted())
	}
	return kgo.FetchIsolationLevel(kgo.ReadUncommitted())
}

func (l *Load) allPartitions() map[string]map[int32]kgo.Offset {
	out := map[string]map[int32]kgo.Offset{}
	for _, topic := range []string{Input, Output} {
		out[topic] = map[int32]kgo.Offset{}
		for p := range l.o.Partitions {
			out[topic][int32(p)] = kgo.NewOffset().At(0)
		}
	}
	return out
}

func (l *Load) startReader(committed bool) error {
	who := "reader-uncommitted"
	if committed {
		who = "reader-committed"
	}
	cl, err := client(l.o.Bootstrap, isolation(committed), kgo.ConsumePartitions(l.allPartitions()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.ClientID(who), l.logged(who))
	if err != nil {
		return err
	}
	l.rest.Go(func() {
		defer cl.Close()
		next := map[string]map[int32]int64{Input: {}, Output: {}}
		for l.ctx.Err() == nil {
			fs := cl.PollFetches(l.ctx)
			fs.EachTopic(func(t kgo.FetchTopic) {
				t.EachPartition(func(p kgo.FetchPartition) {
					l.readPartition(who, committed, t.Topic, p, next[t.Topic])
				})
			})
		}
	})
	return nil
}

// readPartition writes down one fetched partition. The client goes back by itself when it is told of a truncation.
func (l *Load) readPartition(who string, committed bool, topic string, p kgo.FetchPartition, next map[int32]int64) {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(p.Err, &loss):
		l.o.Record(history.Event{Kind: history.Truncated, Who: who, Topic: topic, Partition: p.Partition, Offset: next[p.Partition], N: loss.ResetTo, Note: p.Err.Error()})
		l.o.Record(history.Event{Kind: history.Seek, Who: who, Topic: topic, Partition: p.Partition, Offset: loss.ResetTo})
	case p.Err != nil:
		l.errs.add(who, p.Err)
	}
	if len(p.Records) == 0 {
		return
	}
	// A reset to the start after an answer out of range comes without a word: the client was told that the log is shorter.
	if first := p.Records[0].Offset; first < next[p.Partition] {
		l.o.Record(history.Event{Kind: history.Truncated, Who: who, Topic: topic, Partition: p.Partition, Offset: next[p.Partition], N: first, Note: "was reset"})
		l.o.Record(history.Event{Kind: history.Seek, Who: who, Topic: topic, Partition: p.Partition, Offset: first})
	}
	joined(history.Read, who, committed, p, topic, l.o.Record)
	next[p.Partition] = p.Records[len(p.Records)-1].Offset + 1
}

// member is a consumer of a group that commits what it has read.
func (l *Load) member(i int) {
	who := fmt.Sprintf("member-%d", i)
	for l.ctx.Err() == nil {
		cl, err := client(l.o.Bootstrap, kgo.ConsumerGroup(ReadGroup), kgo.ConsumeTopics(Input), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchMaxWait(500*time.Millisecond), kgo.ClientID(who), l.logged(who), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second))
		if err != nil {
			l.errs.add(who, err)
			return
		}
		for l.ctx.Err() == nil {
			fs := cl.PollRecords(l.ctx, 5000)
			fs.EachError(func(_ string, _ int32, err error) { l.errs.add(who, err) })
			commit, cancel := context.WithTimeout(l.ctx, 15*time.Second)
			if err := cl.CommitUncommittedOffsets(commit); err != nil {
				l.errs.add(who+" commit", err)
			}
			cancel()
			pause(l.ctx, 200*time.Millisecond)
		}
		cl.CloseAllowingRebalance()
	}
}

// startObservers starts the sequential observers of end offsets and of committed offsets. Each is one client that asks again only
// when it has been answered.
func (l *Load) startObservers() error {
	for _, o := range []struct {
		who  string
		each func(*kadm.Client, string)
	}{{"ends", l.observeEnds}, {"commits", l.observeCommits}} {
		cl, err := client(l.o.Bootstrap, kgo.ClientID(o.who))
		if err != nil {
			return err
		}
		adm := kadm.NewClient(cl)
		l.rest.Go(func() {
			defer cl.Close()
			for l.ctx.Err() == nil {
				o.each(adm, o.who)
				pause(l.ctx, 50*time.Millisecond)
			}
		})
	}
	own, err := client(l.o.Bootstrap, kgo.ClientID("committer"))
	if err != nil {
		return err
	}
	l.rest.Go(func() {
		defer own.Close()
		l.commitOwn(kadm.NewClient(own), "committer")
	})
	return nil
}

func (l *Load) observeEnds(adm *kadm.Client, who string) {
	ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
	defer cancel()
	ends, err := adm.ListEndOffsets(ctx, Input)
	l.errs.add(who, err)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset >= 0 {
			l.o.Record(history.Event{Kind: history.End, Who: who, Topic: o.Topic, Partition: o.Partition, Offset: o.Offset})
		}
	})
}

// observeCommits asks for the offsets of the groups that others commit to.
func (l *Load) observeCommits(adm *kadm.Client, who string) {
	for _, group := range []string{ReadGroup, TransformGroup} {
		ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
		offsets, err := adm.FetchOffsets(ctx, group)
		cancel()
		if err != nil {
			if !errors.Is(err, kerr.GroupIDNotFound) {
				l.errs.add(who, err)
			}
			continue
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.Err == nil && o.Topic == Input {
				l.o.Record(history.Event{Kind: history.CommitSeen, Who: who, Group: group, Topic: o.Topic, Partition: o.Partition, Offset: o.At})
			}
		})
	}
}

// commitOwn is one client that commits growing offsets to a group of its own and reads them back.
func (l *Load) commitOwn(adm *kadm.Client, who string) {
	for n := int64(1); l.ctx.Err() == nil; n++ {
		var offsets kadm.Offsets
		for p := range l.o.Partitions {
			offsets.Add(kadm.Offset{Topic: Input, Partition: int32(p), At: n, LeaderEpoch: -1})
		}
		ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
		done, err := adm.CommitOffsets(ctx, ObserverGroup, offsets)
		l.errs.add(who, err)
		if err == nil {
			done.Each(func(o kadm.OffsetResponse) {
				if o.Err == nil {
					l.o.Record(history.Event{Kind: history.CommitOK, Who: who, Group: ObserverGroup, Topic: o.Topic, Partition: o.Partition, Offset: n})
				}
			})
		}
		seen, err := adm.FetchOffsets(ctx, ObserverGroup)
		cancel()
		if err == nil {
			seen.Each(func(o kadm.OffsetResponse) {
				if o.Err == nil {
					l.o.Record(history.Event{Kind: history.CommitSeen, Who: who, Group: ObserverGroup, Topic: o.Topic, Partition: o.Partition, Offset: o.At})
				}
			})
		}
		pause(l.ctx, 50*time.Millisecond)
	}
}
