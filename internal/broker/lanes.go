package broker

import "sync"

// laneCount is how many lanes run at once.
const laneCount = 8

// lanes run what others must not be held up by, such as the appends of a produce request that had to ask the transaction coordinator: calls
// with one key in their order, one after another, different keys at once. A lane is a goroutine while there is something in it.
type lanes struct {
	each [laneCount]lane
	busy sync.WaitGroup
}

type lane struct {
	mu      sync.Mutex
	queue   []func()
	running bool
	closed  bool
}

// Run puts f at the end of its key's lane; it does not block, but after close, when it runs f itself.
func (l *lanes) Run(key int64, f func()) {
	n := &l.each[uint64(key)%laneCount]
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		f()
		return
	}
	defer n.mu.Unlock()
	n.queue = append(n.queue, f)
	if !n.running {
		n.running = true
		l.busy.Go(n.run)
	}
}

func (n *lane) run() {
	for {
		n.mu.Lock()
		queue := n.queue
		n.queue = nil
		if len(queue) == 0 {
			n.running = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		for _, f := range queue {
			f()
		}
	}
}

// close waits until all is run.
func (l *lanes) close() {
	for i := range l.each {
		l.each[i].mu.Lock()
		l.each[i].closed = true
		l.each[i].mu.Unlock()
	}
	l.busy.Wait()
}
