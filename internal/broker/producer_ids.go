package broker

import (
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/api"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// producerIDs hands out the producer ids of a block and asks the controller for the next one when it is used up.
type producerIDs struct {
	ctl   api.Controller
	nodes *nodes
	node  int32
	epoch func() int64

	mu       sync.Mutex
	next     int64
	left     int64
	fetching bool
	waiting  []func(int64, error)
}

// Next calls done with a fresh id, at once where the block has one left.
func (p *producerIDs) Next(done func(id int64, err error)) {
	p.mu.Lock()
	if p.left > 0 {
		id := p.next
		p.next++
		p.left--
		p.mu.Unlock()
		done(id, nil)
		return
	}
	p.waiting = append(p.waiting, done)
	fetch := !p.fetching
	p.fetching = true
	p.mu.Unlock()
	if fetch {
		p.fetch()
	}
}

func (p *producerIDs) fetch() {
	var first int64
	var refused error
	p.ctl.Submit("allocate-producer-ids", func(c *controller.Controller, img *metadata.Image, _ controller.Env) (records controller.Records) {
		records, first, refused = c.AllocateProducerIDs(img, p.node, p.epoch())
		return records
	}, func(err error) {
		if errors.Is(err, kerr.NotController) {
			p.fetchElsewhere()
			return
		}
		if err == nil {
			err = refused
		}
		p.got(first, controller.ProducerIDBlock, err)
	})
}

// fetchElsewhere asks the active controller on another node.
func (p *producerIDs) fetchElsewhere() {
	q := kmsg.NewPtrAllocateProducerIDsRequest()
	q.BrokerID, q.BrokerEpoch = p.node, p.epoch()
	p.nodes.ToController(q, func(resp kmsg.Response) bool {
		r, ok := resp.(*kmsg.AllocateProducerIDsResponse)
		return ok && r.ErrorCode == kerr.NotController.Code
	}, func(resp kmsg.Response, err error) {
		r, ok := resp.(*kmsg.AllocateProducerIDsResponse)
		switch {
		case err != nil:
		case !ok:
			err = kerr.UnknownServerError
		case r.ErrorCode != 0:
			err = kerr.ErrorForCode(r.ErrorCode)
		case r.ProducerIDLen <= 0:
			err = wire.Errorf(kerr.CoordinatorNotAvailable, "the controller gave a block of %d producer ids", r.ProducerIDLen)
		}
		if err != nil {
			p.got(0, 0, wire.Errorf(kerr.CoordinatorNotAvailable, "no producer ids: %v", err)) // the client asks again
			return
		}
		p.got(r.ProducerIDStart, int(r.ProducerIDLen), nil)
	})
}

// got serves those who waited: from the new block, or with the error. Who is left over asks for another block.
func (p *producerIDs) got(first int64, block int, err error) {
	p.mu.Lock()
	waiting := p.waiting
	var more bool
	if err == nil {
		n := min(len(waiting), block)
		p.next, p.left = first+int64(n), int64(block-n)
		waiting, p.waiting = waiting[:n], append([]func(int64, error){}, waiting[n:]...)
		more = len(p.waiting) > 0
	} else {
		p.waiting = nil
	}
	p.fetching = more
	p.mu.Unlock()
	for i, done := range waiting {
		if err != nil {
			done(0, err)
		} else {
			done(first+int64(i), nil)
		}
	}
	if more {
		p.fetch()
	}
}
