package metadata

import "errors"

// Publisher is told of every change, in the order of the log, on one goroutine. delta leads to img; both are
// immutable from then on. It must not block: what takes time is handed to another goroutine.
type Publisher interface {
	Name() string
	OnMetadata(delta *Delta, img *Image)
}

// LocalChange is what a delta means for a partition of one broker.
type LocalChange struct {
	Topic     *Topic // the topic as it is now, or as it was when it is gone
	Partition int32
	Old, New  *Partition // nil where there is no partition, or this broker holds no copy of it
	// Deleted says that the topic is gone, not only this broker's copy.
	Deleted bool
}

// Local lists what changed of the partitions that the broker has or had a copy of, in order of topic and partition.
func (d *Delta) Local(broker int32) []LocalChange {
	var out []LocalChange
	for _, c := range d.Topics() {
		t := c.New
		if t == nil {
			t = c.Old
		}
		for _, n := range c.Partitions() {
			lc := LocalChange{Topic: t, Partition: n, Deleted: c.New == nil}
			if c.Old != nil {
				lc.Old = held(c.Old.Partition(n), broker)
			}
			if c.New != nil {
				lc.New = held(c.New.Partition(n), broker)
			}
			if lc.Old != nil || lc.New != nil {
				out = append(out, lc)
			}
		}
	}
	return out
}

func held(p *Partition, broker int32) *Partition {
	if p == nil || !p.Holds(broker) {
		return nil
	}
	return p
}

// Holds says whether a broker has a copy of the partition.
func (p *Partition) Holds(broker int32) bool {
	for _, r := range p.Replicas {
		if r == broker {
			return true
		}
	}
	return false
}

// ErrNotWritten is in the error of a proposal of which nothing is in the log nor ever will be, so that the next one can be tried.
var ErrNotWritten = errors.New("nothing was written")

// Proposer is what the controller's loop needs of a metadata log. done is called once, from any goroutine: with the
// offset of the first record when all of them are durable on a majority, and applied where the Proposer applies what it commits, or
// with an error when it is not known whether they will be; ErrNotWritten in it says that they will not.
type Proposer interface {
	Propose(records []Versioned, done func(base int64, err error))
}
