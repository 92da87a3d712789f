// Package purgatory holds delayed operations: they wait under keys until something under a key changes or their time
// is up. It knows operations, keys and timeouts; it must never know what an operation does or what a key names.
//
// An operation is tried, put under its keys, and tried again, so that a change between the first try and the watch is
// not missed. Touch of a key tries everything that waits there. An operation never runs on two goroutines at once: one
// that is touched while it is being tried is tried once more by whoever is trying it, so nobody waits for anybody and
// no lock is held while an operation runs. A completed operation leaves all its keys and the wheel at once; nothing is
// left behind to be purged.
package purgatory

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/timewheel"
)

// Op is a delayed operation. Its methods are never called concurrently, and none after TryComplete has returned true
// or Expire has been called. They may call Touch and TryCompleteElseWatch.
type Op interface {
	// TryComplete answers and returns true where the operation can be completed now. It must not block.
	TryComplete() bool
	// Expire is called instead when the time is up. It runs on the wheel's goroutine and must not block.
	Expire()
}

const shards = 64

// Purgatory holds operations under keys of type K.
type Purgatory[K comparable] struct {
	wheel   *timewheel.Wheel
	seed    maphash.Seed
	metrics metrics
	shards  [shards]shard[K]
	scratch sync.Pool // *[]*watcher[K]: the watchers that one Touch tries

	later   sync.Mutex
	queue   []K // keys of TouchLater
	running bool
}

type shard[K comparable] struct {
	keys atomic.Int64 // len(lists), so that touching a key nobody waits for takes no lock
	mu   sync.Mutex
	// lists holds a list for each key that is watched, and none for others.
	lists map[K]*list[K]
	spare *list[K]
	_     [24]byte // keeps neighbours off one cache line
}

type list[K comparable] struct {
	head, tail *node[K]
	n          int
}

// node is one watcher under one key.
type node[K comparable] struct {
	w          *watcher[K]
	key        K
	list       *list[K] // nil while not linked
	next, prev *node[K]
}

// Bits of watcher.state.
const (
	running = 1 << iota // a goroutine is running the operation
	touched             // it is to be tried once more
	expired             // it is to be expired
	done                // it has completed or expired
)

type watcher[K comparable] struct {
	p      *Purgatory[K]
	op     Op
	state  atomic.Uint32
	parked bool // counted as waiting
	timer  timewheel.Timer
	one    [1]node[K] // saves an allocation for the operation of one key
	nodes  []node[K]
}

// New makes a purgatory; name is its label in the metrics. reg may be nil.
func New[K comparable](name string, wheel *timewheel.Wheel, reg prometheus.Registerer) *Purgatory[K] {
	p := &Purgatory[K]{wheel: wheel, seed: maphash.MakeSeed()}
	p.scratch.New = func() any { return new([]*watcher[K]) }
	p.metrics.register(name, reg)
	return p
}

// TryCompleteElseWatch completes op now and returns true, or keeps it until a Touch of one of keys completes it or
// timeout has passed. True also where timeout is not positive: op is then expired before the return.
// keys is not kept; the same key may stand in it twice.
func (p *Purgatory[K]) TryCompleteElseWatch(op Op, timeout time.Duration, keys ...K) (completed bool) {
	if op.TryComplete() {
		p.metrics.completed.Add(1)
		return true
	}
	w := &watcher[K]{p: p, op: op}
	if timeout <= 0 {
		return w.run(expired)
	}
	if len(keys) > 1 {
		w.nodes = make([]node[K], len(keys))
	} else {
		w.nodes = w.one[:len(keys)]
	}
	w.parked, w.timer.Task = true, w
	for i, k := range keys { // all before the first link: from there on another goroutine may walk them
		w.nodes[i].w, w.nodes[i].key = w, k
	}
	p.metrics.waiting.Add(1)
	for i := range w.nodes {
		p.link(&w.nodes[i])
	}
	// A change since the first try found nobody under the key: try again. A Touch that runs it just now does as well.
	if w.run(touched) {
		return true
	}
	if !w.finished() {
		p.wheel.Schedule(&w.timer, timeout)
	}
	if w.finished() { // by a Touch, which may have cleaned up before the last link or the timer
		w.leave()
		return true
	}
	return false
}

// Touch tries the operations that wait under key, oldest first, and returns how many it completed. It holds no lock
// meanwhile; its cost is that of the operations' TryComplete.
func (p *Purgatory[K]) Touch(key K) (n int) {
	s := p.shard(key)
	if s.keys.Load() == 0 {
		return 0
	}
	buf := p.scratch.Get().(*[]*watcher[K])
	ws := (*buf)[:0]
	s.mu.Lock()
	if l := s.lists[key]; l != nil {
		for nd := l.head; nd != nil; nd = nd.next {
			ws = append(ws, nd.w)
		}
	}
	s.mu.Unlock()
	for i, w := range ws {
		if w.run(touched) {
			n++
		}
		ws[i] = nil
	}
	*buf = ws[:0]
	p.scratch.Put(buf)
	return n
}

// TouchLater is Touch on another goroutine, for callers that must not spend the time of the operations: one
// goroutine works through the keys touched while it runs and then ends. A key nobody waits for costs no goroutine.
func (p *Purgatory[K]) TouchLater(key K) {
	if p.Watched(key) == 0 {
		return
	}
	p.later.Lock()
	p.queue = append(p.queue, key)
	start := !p.running
	p.running = true
	p.later.Unlock()
	if start {
		go p.touchQueued()
	}
}

func (p *Purgatory[K]) touchQueued() {
	var keys []K
	for {
		p.later.Lock()
		p.queue, keys = keys[:0], p.queue
		if len(keys) == 0 {
			p.queue, p.running = nil, false
			p.later.Unlock()
			return
		}
		p.later.Unlock()
		for _, k := range keys {
			p.Touch(k)
		}
		clear(keys)
	}
}

// Watched is the number of operations that wait under key.
func (p *Purgatory[K]) Watched(key K) int {
	s := p.shard(key)
	if s.keys.Load() == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lists[key]; l != nil {
		return l.n
	}
	return 0
}

// Waiting is the number of operations in the purgatory.
func (p *Purgatory[K]) Waiting() int { return int(p.metrics.waiting.Load()) }

func (p *Purgatory[K]) shard(key K) *shard[K] {
	return &p.shards[maphash.Comparable(p.seed, key)%shards]
}

func (p *Purgatory[K]) link(nd *node[K]) {
	s := p.shard(nd.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lists[nd.key]
	if l == nil {
		if s.lists == nil {
			s.lists = make(map[K]*list[K])
		}
		if l = s.spare; l != nil {
			s.spare = nil
		} else {
			l = new(list[K])
		}
		s.lists[nd.key] = l
		s.keys.Add(1)
	}
	nd.list, nd.prev = l, l.tail
	if l.tail == nil {
		l.head = nd
	} else {
		l.tail.next = nd
	}
	l.tail = nd
	l.n++
}

func (p *Purgatory[K]) unlink(nd *node[K]) {
	s := p.shard(nd.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := nd.list
	if l == nil {
		return
	}
	if nd.prev == nil {
		l.head = nd.next
	} else {
		nd.prev.next = nd.next
	}
	if nd.next == nil {
		l.tail = nd.prev
	} else {
		nd.next.prev = nd.prev
	}
	nd.list, nd.next, nd.prev = nil, nil, nil
	if l.n--; l.n == 0 {
		delete(s.lists, nd.key)
		s.keys.Add(-1)
		s.spare = l
	}
}

// Fire expires the operation; the wheel calls it.
func (w *watcher[K]) Fire() { w.run(expired) }

func (w *watcher[K]) finished() bool { return w.state.Load()&done != 0 }

// run tries or expires the operation, unless another goroutine is running it, which then does so in this one's place.
// True where this call finished it.
func (w *watcher[K]) run(want uint32) bool {
	for {
		s := w.state.Load()
		if s&done != 0 {
			return false
		}
		if s&running != 0 {
			if w.state.CompareAndSwap(s, s|want) {
				return false
			}
			continue
		}
		if w.state.CompareAndSwap(s, running) {
			break
		}
	}
	for {
		switch {
		case want&expired != 0:
			w.op.Expire()
			w.finish()
			w.p.metrics.expired.Add(1)
			return true
		case w.op.TryComplete():
			w.finish()
			w.p.metrics.completed.Add(1)
			return true
		case w.state.CompareAndSwap(running, 0):
			return false
		}
		want = w.state.Swap(running) &^ running
	}
}

// finish closes the operation and takes it out of the wheel and from under its keys.
func (w *watcher[K]) finish() {
	w.state.Store(done)
	w.leave()
	if w.parked {
		w.p.metrics.waiting.Add(-1)
	}
}

func (w *watcher[K]) leave() {
	w.p.wheel.Cancel(&w.timer)
	for i := range w.nodes {
		w.p.unlink(&w.nodes[i])
	}
}
