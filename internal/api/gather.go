package api

import "sync/atomic"

// gather calls done with the collected values once n parts have come in, in whatever order and from whatever goroutine.
type gather[T any] struct {
	parts []T
	left  atomic.Int32
	done  func([]T)
}

func newGather[T any](n int, done func([]T)) *gather[T] {
	g := &gather[T]{parts: make([]T, n), done: done}
	g.left.Store(int32(n))
	if n == 0 {
		done(nil)
	}
	return g
}

// put sets part i; each is set once.
func (g *gather[T]) put(i int, v T) {
	g.parts[i] = v
	if g.left.Add(-1) == 0 {
		g.done(g.parts)
	}
}
