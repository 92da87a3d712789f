package replica

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ottla/ottla/internal/log"
)

// throttle keeps replicas that are being built up from taking the network of those that serve (KIP-73). Those in sync are never held.
type throttle struct {
	rates func() (leader, follower int64)
	of    func(tp log.TopicPartition) (leader, follower bool)

	out, in bucket
}

// throttlePause is how long a follower leaves a partition that has had its share.
const throttlePause = 100 * time.Millisecond

// bucket holds what may still be sent; it fills with the rate, up to a second's worth.
type bucket struct {
	mu   sync.Mutex
	left float64
	last time.Duration
}

// room is how much may go now; take says how much went, which may be more: a batch goes whole.
func (b *bucket) room(rate int64, now time.Duration) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+float64(rate)*(now-b.last).Seconds(), float64(rate))
	b.last = now
	return int(max(min(b.left, math.MaxInt32), 0))
}

func (b *bucket) take(n int) {
	b.mu.Lock()
	b.left -= float64(n)
	b.mu.Unlock()
}

// sends is how many of limit bytes a leader may send a replica of the partition. held says that the throttle applies.
func (m *Manager) sends(p *Partition, replica int32, limit int) (n int, held bool) {
	t := &m.throttle
	if t.rates == nil {
		return limit, false
	}
	rate, _ := t.rates()
	if rate == math.MaxInt64 || slices.Contains(p.state.Load().ISR, replica) {
		return limit, false
	}
	if leader, _ := t.of(p.tp); !leader {
		return limit, false
	}
	return min(limit, t.out.room(rate, m.now())), true
}

// waits says that a follower has fetched the partition's share, and counted is what it has fetched.
func (m *Manager) waits(p *Partition) bool {
	t := &m.throttle
	if t.rates == nil {
		return false
	}
	_, rate := t.rates()
	return rate != math.MaxInt64 && m.heldHere(p) && t.in.room(rate, m.now()) == 0
}

func (m *Manager) counted(p *Partition, n int) {
	if t := &m.throttle; t.rates != nil && m.heldHere(p) {
		t.in.take(n)
	}
}

func (m *Manager) heldHere(p *Partition) bool {
	if slices.Contains(p.state.Load().ISR, m.node) {
		return false
	}
	_, follower := m.throttle.of(p.tp)
	return follower
}
