// Package wire knows frames, primitives, pooled buffers and protocol errors: bytes only. It must never know what a
// topic, a group or a connection is.
package wire

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Size classes of the buffer pool: powers of two from 1 KiB to 16 MiB. Larger buffers are made for one use.
const (
	minClassBits = 10
	maxClassBits = 24
)

var pools [maxClassBits - minClassBits + 1]sync.Pool

// Buffer is a pooled byte slice with a reference count. It starts with one reference; whoever keeps the
// bytes past its own return calls Retain first and Release when done. The last Release hands the memory to
// the next user, so no slice of Bytes may be read after it.
type Buffer struct {
	b    []byte
	full []byte
	refs atomic.Int32
}

// GetBuffer returns a buffer of exactly n bytes with unspecified content and one reference.
func GetBuffer(n int) *Buffer {
	class := classOf(n)
	if class < 0 {
		buf := &Buffer{b: make([]byte, n)}
		buf.refs.Store(1)
		return buf
	}
	buf, _ := pools[class].Get().(*Buffer)
	if buf == nil {
		buf = &Buffer{full: make([]byte, 1<<(class+minClassBits))}
	}
	buf.b = buf.full[:n]
	buf.refs.Store(1)
	return buf
}

func classOf(n int) int {
	if n > 1<<maxClassBits {
		return -1
	}
	if n <= 1<<minClassBits {
		return 0
	}
	return bits.Len(uint(n-1)) - minClassBits
}

// Bytes is the buffer's content, valid while the caller holds a reference.
func (b *Buffer) Bytes() []byte { return b.b }

// Retain takes one more reference.
func (b *Buffer) Retain() {
	if b.refs.Add(1) <= 1 {
		panic("BUG: wire.Buffer retained after its last release")
	}
}

// Release gives one reference back; the last one returns the memory to the pool.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("BUG: wire.Buffer released twice")
	case n == 0 && b.full != nil:
		poison(b.full)
		b.b = nil
		pools[classOf(len(b.full))].Put(b)
	}
}
