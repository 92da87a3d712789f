package replica

import (
	"sync"
)

// followers are the fetches of other brokers' replicas that wait here.
type followers struct {
	mu     sync.Mutex
	parked map[int32]map[*delayedFetch]struct{} // by broker
}

func (f *followers) park(d *delayedFetch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.parked[d.params.Replica]
	if set == nil {
		set = map[*delayedFetch]struct{}{}
		f.parked[d.params.Replica] = set
	}
	set[d] = struct{}{}
}

func (f *followers) leave(d *delayedFetch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.parked[d.params.Replica], d)
}

// release answers what the brokers' replicas wait for, with what there is: they have something new to ask.
func (f *followers) release(brokers []int32) {
	var all []*delayedFetch
	f.mu.Lock()
	for _, id := range brokers {
		for d := range f.parked[id] {
			all = append(all, d)
		}
	}
	f.mu.Unlock()
	for _, d := range all {
		d.finish()
	}
}

// ReleaseFollower answers the parked fetches of a broker's replicas, which says that it has more to fetch.
func (m *Manager) ReleaseFollower(broker int32) { m.followers.release([]int32{broker}) }

// appended tells the followers of a partition, and watches over them from now on.
func (m *Manager) appended(p *Partition) {
	m.copies.Touch(p.tp)
	if !p.active.Load() && p.active.CompareAndSwap(false, true) {
		m.isr.watch(p)
	}
}
