package controller

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// usable says whether a broker takes new copies, active whether it may be in a partition's first ISR.
func usable(b *metadata.Broker) bool {
	if len(b.LogDirs) == 0 {
		return true
	}
	for _, d := range b.LogDirs {
		if !slices.Contains(b.Cordoned, d) {
			return true
		}
	}
	return false
}

func active(img *metadata.Image, id int32) bool {
	b := img.Broker(id)
	return b != nil && !b.Fenced && !b.InControlledShutdown
}

// placer spreads copies over the registered brokers: round robin over racks, so that the copies of a partition are
// on as many racks as there are; leaders go round over the brokers that are up.
type placer struct {
	order []int32 // brokers, racks alternating
	up    map[int32]bool
	next  int
}

func newPlacer(img *metadata.Image, random uint32) *placer {
	racks := map[string][]int32{}
	var names []string
	p := &placer{up: map[int32]bool{}}
	for _, b := range img.Brokers() {
		if !usable(b) {
			continue
		}
		rack := ""
		if b.Rack != nil {
			rack = *b.Rack
		}
		if racks[rack] == nil {
			names = append(names, rack)
		}
		racks[rack] = append(racks[rack], b.ID)
		p.up[b.ID] = !b.Fenced && !b.InControlledShutdown
	}
	slices.Sort(names)
	for len(p.order) < len(p.up) {
		for _, r := range names {
			if len(racks[r]) > 0 {
				p.order = append(p.order, racks[r][0])
				racks[r] = racks[r][1:]
			}
		}
	}
	if n := len(p.order); n > 0 {
		p.next = int(random % uint32(n))
	}
	return p
}

// place chooses the brokers of one partition, the leader first.
func (p *placer) place(copies int) ([]int32, error) {
	switch {
	case copies > len(p.order):
		return nil, sentence("The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.", copies, len(p.order))
	case !slices.ContainsFunc(p.order, func(id int32) bool { return p.up[id] }):
		return nil, sentence("All brokers are currently fenced or have all their log directories cordoned.")
	}
	n := len(p.order)
	start := p.next
	for !p.up[p.order[start%n]] {
		start++
	}
	p.next = (start + 1) % n
	out := make([]int32, 0, copies)
	for i := 0; len(out) < copies; i++ { // brokers that are up first
		id := p.order[(start+i)%n]
		if i >= n || p.up[id] {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out, nil
}

// checkAssignment refuses a manual choice of brokers: INVALID_REPLICA_ASSIGNMENT. copies is 0 where nothing was chosen before.
func checkAssignment(img *metadata.Image, brokers []int32, copies int) error {
	bad := func(format string, args ...any) error {
		return wire.Errorf(kerr.InvalidReplicaAssignment, format, args...)
	}
	if len(brokers) == 0 {
		return bad("The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Clone(brokers)
	slices.Sort(sorted)
	for i, id := range sorted {
		if img.Broker(id) == nil {
			return bad("The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if i > 0 && sorted[i-1] == id {
			return bad("The manual partition assignment includes the broker %d more than once.", id)
		}
	}
	if copies > 0 && len(brokers) != copies {
		return bad("The manual partition assignment includes a partition with %d replica(s), but this is not consistent with previous partitions, which have %d replica(s).", len(brokers), copies)
	}
	return nil
}

// newPartition is a partition on these brokers; nil when none of them is up.
func newPartition(img *metadata.Image, brokers []int32) *metadata.Partition {
	p := &metadata.Partition{Replicas: brokers, Removing: []int32{}, Adding: []int32{}}
	for _, id := range brokers {
		if active(img, id) {
			p.ISR = append(p.ISR, id)
		}
		p.Directories = append(p.Directories, defaultDir(img.Broker(id)))
	}
	if len(p.ISR) == 0 {
		return nil
	}
	p.Leader = p.ISR[0]
	return p
}

// defaultDir is a broker's directory when it has one only; the zero id leaves the choice to the broker.
func defaultDir(b *metadata.Broker) metadata.UUID {
	if b != nil && len(b.LogDirs) == 1 {
		return b.LogDirs[0]
	}
	return metadata.UUID{}
}
