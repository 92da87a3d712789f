// Package remote is how a broker's coordinators work with those of other brokers: partitions become part of a transaction that is coordinated
// elsewhere, markers go to leaders elsewhere. It finds the broker in the image, gathers what goes to one broker, and asks again until it is
// clear what became of it.
//
// It knows Kafka's requests between coordinators and a function that sends one to a node. It must never know connections, nor what a
// coordinator does with what it is asked.
package remote

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Ask sends a request to a node and waits for the answer. An error means that nobody knows whether it was done.
type Ask func(ctx context.Context, node int32, req kmsg.Request) (kmsg.Response, error)

// gatherer keeps what is to go to a node while a request is under way there: all that waits goes with the next. A node has a goroutine while
// there is something for it.
type gatherer[T any] struct {
	send func(node int32, items []T)
	max  int // items of one request

	mu     sync.Mutex
	boxes  map[int32][]T // there is an entry while the node's goroutine runs
	closed bool
	busy   sync.WaitGroup
}

func newGatherer[T any](maxItems int, send func(node int32, items []T)) *gatherer[T] {
	return &gatherer[T]{send: send, max: maxItems, boxes: map[int32][]T{}}
}

// add says whether the item will be sent; nothing is after close.
func (g *gatherer[T]) add(node int32, item T) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	box, running := g.boxes[node]
	g.boxes[node] = append(box, item)
	if !running {
		g.busy.Go(func() { g.run(node) })
	}
	return true
}

func (g *gatherer[T]) run(node int32) {
	for {
		g.mu.Lock()
		items := g.boxes[node]
		if len(items) == 0 {
			delete(g.boxes, node)
			g.mu.Unlock()
			return
		}
		n := min(len(items), g.max)
		g.boxes[node] = append([]T(nil), items[n:]...)
		g.mu.Unlock()
		g.send(node, items[:n])
	}
}

// close waits until everything is sent.
func (g *gatherer[T]) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.busy.Wait()
}
