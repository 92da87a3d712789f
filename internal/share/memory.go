package share

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// Memory is a Persister that forgets everything when the process ends, for tests. Its zero value is empty. A share-partition that was not
// initialised has no start yet.
type Memory struct {
	// Fail, where set, decides about every write.
	Fail func(k PartitionKey, w StateWrite) error

	mu     sync.Mutex
	states map[PartitionKey]*memoryState
}

type memoryState struct {
	PersistedState
	leaderEpoch int32
}

func (m *Memory) state(k PartitionKey) *memoryState {
	if m.states == nil {
		m.states = map[PartitionKey]*memoryState{}
	}
	s := m.states[k]
	if s == nil {
		s = &memoryState{PersistedState: PersistedState{StartOffset: -1}}
		m.states[k] = s
	}
	return s
}

// ReadState is of Persister.
func (m *Memory) ReadState(k PartitionKey, leaderEpoch int32, done func(PersistedState, error)) {
	m.mu.Lock()
	s := m.state(k)
	s.leaderEpoch = max(s.leaderEpoch, leaderEpoch)
	out := s.PersistedState
	out.Batches = append([]StateBatch(nil), s.Batches...)
	m.mu.Unlock()
	done(out, nil)
}

// WriteState is of Persister.
func (m *Memory) WriteState(k PartitionKey, w StateWrite, done func(error)) {
	done(m.write(k, w))
}

func (m *Memory) write(k PartitionKey, w StateWrite) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state(k)
	if m.Fail != nil {
		if err := m.Fail(k, w); err != nil {
			return err
		}
	}
	if w.StateEpoch < s.StateEpoch {
		return wire.Errorf(kerr.FencedStateEpoch, "state epoch %d is older than %d", w.StateEpoch, s.StateEpoch)
	}
	if w.LeaderEpoch < s.leaderEpoch {
		return wire.Errorf(kerr.FencedLeaderEpoch, "leader epoch %d is older than %d", w.LeaderEpoch, s.leaderEpoch)
	}
	if w.StartOffset >= 0 {
		s.StartOffset = w.StartOffset
	}
	s.Batches = Merge(s.Batches, w.Batches, s.StartOffset)
	return nil
}

// InitializeState is of Persister.
func (m *Memory) InitializeState(k PartitionKey, stateEpoch int32, startOffset int64, done func(error)) {
	m.mu.Lock()
	*m.state(k) = memoryState{PersistedState: PersistedState{StateEpoch: stateEpoch, StartOffset: startOffset}}
	m.mu.Unlock()
	done(nil)
}

// Merge lays newer batches over older ones and drops what lies below start. Both lists are in offset order without overlap, and
// so is the result; neighbours that say the same are joined.
func Merge(old, newer []StateBatch, start int64) []StateBatch {
	var w StateWrite
	put := func(b StateBatch) {
		if b.FirstOffset = max(b.FirstOffset, start); b.FirstOffset <= b.LastOffset {
			w.add(b)
		}
	}
	i := 0
	for _, n := range newer {
		for ; i < len(old) && old[i].LastOffset < n.FirstOffset; i++ {
			put(old[i])
		}
		if i < len(old) && old[i].FirstOffset < n.FirstOffset {
			left := old[i]
			left.LastOffset = n.FirstOffset - 1
			put(left)
		}
		put(n)
		for i < len(old) && old[i].LastOffset <= n.LastOffset {
			i++
		}
		if i < len(old) && old[i].FirstOffset <= n.LastOffset {
			rest := append([]StateBatch(nil), old[i:]...)
			rest[0].FirstOffset = n.LastOffset + 1
			old, i = rest, 0
		}
	}
	for ; i < len(old); i++ {
		put(old[i])
	}
	return w.Batches
}
