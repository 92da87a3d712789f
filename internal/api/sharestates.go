package api

import (
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/sharestate"
)

// shareState runs an operation of the shard that keeps a share-partition's state.
func shareState[T any](c *Call, name string, k sharecoord.Key, op sharestate.Operation[T], done func(T, error)) {
	if err := c.mayKeepShares(k.Group); err != nil {
		var none T
		done(none, err)
		return
	}
	sharestate.Do(c.ShareStates, name, k, op, done)
}

// mayKeepShares says whether the states of a group's share-partitions are kept.
func (c *Call) mayKeepShares(group string) error {
	switch {
	case c.Image().Feature(controller.ShareVersion) == 0:
		return kerr.UnsupportedVersion
	case group == "":
		return kerr.InvalidRequest
	}
	return nil
}

// shareFan runs parts of a request side by side.
type shareFan []func(done func())

func (f *shareFan) add(part func(done func())) { *f = append(*f, part) }

// run starts every part; done comes once, after the last.
func (f shareFan) run(done func()) {
	left := new(atomic.Int32)
	left.Store(int32(len(f)) + 1)
	one := func() {
		if left.Add(-1) == 0 {
			done()
		}
	}
	for _, part := range f {
		part(one)
	}
	one()
}
