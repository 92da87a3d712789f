package fetchsession

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

func ids() func() int32 {
	n := int32(0)
	return func() int32 { n++; return n - 2 } // -1 and 0 first: they must be passed over
}

func part(topic string, p int32, offset int64) Partition {
	return Partition{Key: Key{Topic: topic, Partition: p}, FetchOffset: offset, MaxBytes: 1 << 20}
}

func begin(t *testing.T, c *Cache, id, epoch int32, named []Partition, forgotten []Key) *Fetch {
	t.Helper()
	f, err := c.Begin(time.Unix(0, 0), id, epoch, false, named, forgotten)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A consumer that names its partitions once is answered only where something is new.
func TestIncremental(t *testing.T) {
	c := NewCache(2, time.Minute, ids())
	f := begin(t, c, 0, EpochInitial, []Partition{part("a", 0, 0), part("b", 1, 5)}, nil)
	if f.SessionID() != 1 {
		t.Fatalf("session id %d, want 1", f.SessionID())
	}
	same := func(int) Answer { return Answer{HighWatermark: 9} }
	if got := f.Finish(same); !got[0] || !got[1] {
		t.Fatalf("a full answer left partitions out: %v", got)
	}
	f = begin(t, c, 1, 1, nil, nil)
	if got := f.Finish(same); got[0] || got[1] {
		t.Fatalf("nothing is new, yet named: %v", got)
	}
	f = begin(t, c, 1, 2, []Partition{part("a", 0, 7)}, nil)
	if f.Partitions[0].FetchOffset != 7 || f.Partitions[1].FetchOffset != 5 {
		t.Fatalf("offsets %d, %d; want 7 as changed and 5 as remembered", f.Partitions[0].FetchOffset, f.Partitions[1].FetchOffset)
	}
	got := f.Finish(func(i int) Answer {
		if i == 0 {
			return Answer{HighWatermark: 9, Bytes: 100}
		}
		return Answer{HighWatermark: 10}
	})
	if !got[0] || !got[1] {
		t.Fatalf("bytes and a moved high watermark must be told: %v", got)
	}
	f = begin(t, c, 1, 3, nil, []Key{{Topic: "b", Partition: 1}})
	if len(f.Partitions) != 1 || f.Partitions[0].Topic != "a" {
		t.Fatalf("after forgetting b: %v", f.Partitions)
	}
	f = begin(t, c, 1, 4, nil, []Key{{Topic: "a"}})
	if f.SessionID() != 0 || c.Len() != 0 {
		t.Fatalf("an empty session must end; id %d, %d left", f.SessionID(), c.Len())
	}
}

// A partition with data goes to the back, so that a busy one does not starve the others of a small max_bytes.
func TestRotation(t *testing.T) {
	c := NewCache(2, time.Minute, ids())
	begin(t, c, 0, EpochInitial, []Partition{part("a", 0, 0), part("a", 1, 0), part("a", 2, 0)}, nil)
	f := begin(t, c, 1, 1, nil, nil)
	f.Finish(func(i int) Answer {
		if i == 0 {
			return Answer{Bytes: 1}
		}
		return Answer{}
	})
	f = begin(t, c, 1, 2, nil, nil)
	for i, want := range []int32{1, 2, 0} {
		if f.Partitions[i].Partition != want {
			t.Fatalf("place %d holds partition %d, want %d", i, f.Partitions[i].Partition, want)
		}
	}
}

func TestErrors(t *testing.T) {
	c := NewCache(1, time.Minute, ids())
	begin(t, c, 0, EpochInitial, []Partition{part("a", 0, 0)}, nil)
	now := time.Unix(0, 0)
	for name, tc := range map[string]struct {
		id, epoch int32
		topicIDs  bool
		want      error
	}{
		"unknown id":  {id: 77, epoch: 1, want: kerr.FetchSessionIDNotFound},
		"wrong epoch": {id: 1, epoch: 5, want: kerr.InvalidFetchSessionEpoch},
		"topic ids":   {id: 1, epoch: 1, topicIDs: true, want: kerr.FetchSessionTopicIDError},
	} {
		if _, err := c.Begin(now, tc.id, tc.epoch, tc.topicIDs, nil, nil); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if f := begin(t, c, 0, EpochInitial, []Partition{part("b", 0, 0)}, nil); f.SessionID() != 0 {
		t.Error("a full cache with a session in use must give none")
	}
	f, err := c.Begin(now.Add(2*time.Minute), 0, EpochInitial, false, []Partition{part("b", 0, 0)}, nil)
	if err != nil || f.SessionID() == 0 || c.Len() != 1 {
		t.Errorf("an unused session must give way: id %d, %d sessions, %v", f.SessionID(), c.Len(), err)
	}
	f = begin(t, c, f.SessionID(), EpochFinal, []Partition{part("b", 0, 0)}, nil)
	if f.SessionID() != 0 || c.Len() != 0 || len(f.Partitions) != 1 {
		t.Error("the final epoch must close the session and still fetch")
	}
}

// What sessions remember is bounded, however many partitions clients name; without one a client is served all the same.
func TestSessionsAreBounded(t *testing.T) {
	const partitionsPerSession, partitionsInAll = 200, 1000
	c := NewCache(100, time.Minute, ids())
	c.perSession, c.inAll = partitionsPerSession, partitionsInAll
	wide := func(from, n int) (named []Partition) {
		for i := range n {
			named = append(named, part("wide", int32(from+i), 0))
		}
		return named
	}
	if f := begin(t, c, 0, EpochInitial, wide(0, partitionsPerSession+1), nil); f.SessionID() != 0 || len(f.Partitions) != partitionsPerSession+1 {
		t.Errorf("a session too wide got id %d and %d partitions", f.SessionID(), len(f.Partitions))
	}
	f := begin(t, c, 0, EpochInitial, wide(0, partitionsPerSession), nil)
	if f.SessionID() == 0 {
		t.Fatal("the widest session there may be got none")
	}
	if _, err := c.Begin(time.Unix(0, 0), f.SessionID(), 1, false, wide(partitionsPerSession, 1), nil); !errors.Is(err, kerr.FetchSessionIDNotFound) {
		t.Errorf("a session that grows too wide is answered %v", err)
	}
	given := 0
	for range 10 {
		if begin(t, c, 0, EpochInitial, wide(0, partitionsPerSession), nil).SessionID() != 0 {
			given++
		}
	}
	if given != partitionsInAll/partitionsPerSession {
		t.Errorf("%d of the widest sessions were given", given)
	}
}

// Forgetting takes no longer for many than for few each.
func TestForgetsMany(t *testing.T) {
	c := NewCache(1, time.Minute, ids())
	var named []Partition
	var keys []Key
	for i := range 100_000 {
		p := part("t", int32(i), 0)
		named = append(named, p)
		if i > 0 {
			keys = append(keys, p.Key)
		}
	}
	begin(t, c, 0, EpochInitial, named, nil)
	begun := time.Now()
	f := begin(t, c, 1, 1, nil, keys)
	if len(f.Partitions) != 1 || f.Partitions[0].Partition != 0 {
		t.Errorf("%d partitions are left", len(f.Partitions))
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}
