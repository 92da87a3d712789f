// Package balance plans where the copies of partitions should be: it empties brokers, spreads over racks, evens out number, size, traffic and
// leaders. It knows copies, brokers, racks and disks. It must never know how a plan is carried out, nor ask anybody: pure.
//
// Hard goals hold after every single move: a partition keeps its number of copies, never two on one broker, on as many racks as
// before or more, and no disk gets fuller than its limit. A soft goal is a cost that no move may raise.
package balance

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Broker is where copies can be.
type Broker struct {
	ID   int32
	Rack string
	// DiskBytes is the size of its disks and UsedBytes what is in use of it; 0 where it is not known.
	DiskBytes, UsedBytes int64
	// Leaving brokers are emptied and given nothing. Down ones are given nothing and cannot be copied from.
	Leaving, Down bool
}

// Partition is a partition's copies, the preferred leader first.
type Partition struct {
	Topic    string
	Number   int32
	Replicas []int32
	ISR      []int32
	Bytes    int64
	// Traffic is bytes a second that its leader takes in, 0 where it is not known.
	Traffic float64
	MinISR  int
}

// Options of a plan.
type Options struct {
	// MovesMax bounds the moves for evenness; 0 has no bound. Moves that empty a broker are not counted.
	MovesMax int
	// DiskShare is the part of a disk that may be in use after a move; 0.85 by default.
	DiskShare float64
	// Even says to even out as well; otherwise brokers are emptied only.
	Even bool
}

// Move is one partition's change.
type Move struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	From      []int32 `json:"from"`
	To        []int32 `json:"to"`
	Bytes     int64   `json:"bytes"` // to copy
}

// Plan is what to do, in this order.
type Plan struct {
	Moves  []Move  `json:"moves"`
	Before float64 `json:"cost_before"`
	After  float64 `json:"cost_after"`
}

// load is what a broker carries.
type load struct {
	b       *Broker
	copies  int
	leaders int
	bytes   int64
	traffic float64
	coming  int64 // bytes that moves bring and take
}

type planner struct {
	o      Options
	loads  map[int32]*load
	order  []*load // those that may be given copies, by id
	parts  []*Partition
	racks  int
	totals [4]float64 // copies, leaders, bytes, traffic
}

// gainMin is the least that a move for evenness must gain: a copy is not free.
const gainMin = 1e-3

// Make plans. The error names the first partition that cannot be placed; nothing is planned then.
func Make(brokers []Broker, partitions []Partition, o Options) (*Plan, error) {
	if o.DiskShare <= 0 {
		o.DiskShare = 0.85
	}
	p := &planner{o: o, loads: map[int32]*load{}}
	racks := map[string]bool{}
	for i := range brokers {
		b := brokers[i]
		l := &load{b: &b}
		p.loads[b.ID] = l
		if !b.Leaving && !b.Down {
			p.order = append(p.order, l)
			racks[b.Rack] = true
		}
	}
	p.racks = len(racks)
	slices.SortFunc(p.order, func(a, b *load) int { return cmp.Compare(a.b.ID, b.b.ID) })
	for i := range partitions {
		x := partitions[i]
		x.Replicas = slices.Clone(x.Replicas)
		p.parts = append(p.parts, &x)
		p.count(&x, 1)
		p.totals[0] += float64(len(x.Replicas))
		p.totals[1]++
		p.totals[2] += float64(x.Bytes) * float64(len(x.Replicas))
		p.totals[3] += x.Traffic * float64(len(x.Replicas))
	}
	slices.SortFunc(p.parts, func(a, b *Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
	plan := &Plan{Before: p.cost()}
	if err := p.empty(); err != nil {
		return nil, err
	}
	if o.Even {
		p.spread()
		p.even(p.changed(partitions))
	}
	plan.After = p.cost()
	plan.Moves = p.moves(partitions)
	return plan, nil
}

func (p *planner) count(x *Partition, sign int) {
	for i, id := range x.Replicas {
		l := p.loads[id]
		if l == nil {
			continue // a broker that is gone
		}
		l.copies += sign
		l.bytes += int64(sign) * x.Bytes
		l.traffic += float64(sign) * x.Traffic
		if i == 0 {
			l.leaders += sign
		}
	}
}

// cost is 0 where all is even, and grows with the squares of what brokers differ by.
func (p *planner) cost() (sum float64) {
	for _, l := range p.order {
		sum += p.costOf(l, 0, 0, 0, 0)
	}
	return sum
}

func (p *planner) costOf(l *load, copies, leaders int, bytes int64, traffic float64) float64 {
	n := float64(len(p.order))
	square := func(have, total float64) float64 {
		if total <= 0 {
			return 0
		}
		d := have*n/total - 1
		return d * d
	}
	return square(float64(l.copies+copies), p.totals[0]) + square(float64(l.leaders+leaders), p.totals[1]) +
		square(float64(l.bytes+bytes), p.totals[2]) + square(l.traffic+traffic, p.totals[3])
}

// racksOf counts the racks that copies are on, but for the one at index skip.
func (p *planner) racksOf(replicas []int32, skip int, more string, with bool) int {
	racks := map[string]bool{}
	if with {
		racks[more] = true
	}
	for i, id := range replicas {
		if l := p.loads[id]; l != nil && i != skip {
			racks[l.b.Rack] = true
		}
	}
	return len(racks)
}

// fits says whether a broker may take the copy at index i of a partition.
func (p *planner) fits(x *Partition, i int, to *load) bool {
	if slices.Contains(x.Replicas, to.b.ID) {
		return false
	}
	if b := to.b; b.DiskBytes > 0 && x.Bytes > 0 && float64(b.UsedBytes+to.coming+x.Bytes) > p.o.DiskShare*float64(b.DiskBytes) {
		return false
	}
	best := min(p.racks, len(x.Replicas))
	now := p.racksOf(x.Replicas, -1, "", false)
	then := p.racksOf(x.Replicas, i, to.b.Rack, true)
	return then >= min(now, best)
}

// put replaces the copy at index i.
func (p *planner) put(x *Partition, i int, to *load) {
	p.count(x, -1)
	if from := p.loads[x.Replicas[i]]; from != nil {
		from.coming -= x.Bytes
	}
	to.coming += x.Bytes
	x.Replicas[i] = to.b.ID
	p.count(x, 1)
}

// gain is what the cost falls by if the copy at index i goes to another broker.
func (p *planner) gain(x *Partition, i int, to *load) float64 {
	leader := 0
	if i == 0 {
		leader = 1
	}
	g := p.costOf(to, 0, 0, 0, 0) - p.costOf(to, 1, leader, x.Bytes, x.Traffic)
	if from := p.loads[x.Replicas[i]]; from != nil && !from.b.Leaving && !from.b.Down {
		g += p.costOf(from, 0, 0, 0, 0) - p.costOf(from, -1, -leader, -x.Bytes, -x.Traffic)
	}
	return g
}

// best is the broker for the copy at index i: more racks first, then the least cost.
func (p *planner) best(x *Partition, i int) *load {
	var best *load
	racks, gain := -1, math.Inf(-1)
	for _, l := range p.order {
		if !p.fits(x, i, l) {
			continue
		}
		r, g := p.racksOf(x.Replicas, i, l.b.Rack, true), p.gain(x, i, l)
		if r > racks || r == racks && g > gain {
			best, racks, gain = l, r, g
		}
	}
	return best
}

// empty moves everything away from brokers that leave.
func (p *planner) empty() error {
	for _, x := range p.parts {
		for i, id := range x.Replicas {
			l := p.loads[id]
			if l != nil && !l.b.Leaving {
				continue
			}
			to := p.best(x, i)
			if to == nil {
				return fmt.Errorf("topic %s partition %d has %d copies, and no broker can take the one of broker %d: %s", x.Topic, x.Number, len(x.Replicas), id, p.why(x, i))
			}
			p.put(x, i, to)
		}
	}
	return nil
}

// why says what keeps each broker from taking a copy.
func (p *planner) why(x *Partition, i int) string {
	if len(p.order) < len(x.Replicas) {
		return fmt.Sprintf("%d brokers remain for %d copies; add a broker, or lower the topic's number of copies", len(p.order), len(x.Replicas))
	}
	for _, l := range p.order {
		if !slices.Contains(x.Replicas, l.b.ID) && l.b.DiskBytes > 0 && float64(l.b.UsedBytes+l.coming+x.Bytes) > p.o.DiskShare*float64(l.b.DiskBytes) {
			return fmt.Sprintf("the disk of broker %d would be fuller than %d %%", l.b.ID, int(p.o.DiskShare*100))
		}
	}
	return "its copies would be on fewer racks than now; add a broker on that rack"
}

// spread moves copies of partitions that could be on more racks.
func (p *planner) spread() {
	for _, x := range p.parts {
		want := min(p.racks, len(x.Replicas))
		for i := len(x.Replicas) - 1; i >= 0 && p.racksOf(x.Replicas, -1, "", false) < want; i-- {
			now := p.racksOf(x.Replicas, -1, "", false)
			if to := p.best(x, i); to != nil && p.racksOf(x.Replicas, i, to.b.Rack, true) > now {
				p.put(x, i, to)
			}
		}
	}
}

// changed counts the partitions that differ from what they were.
func (p *planner) changed(was []Partition) int { return len(p.moves(was)) }

// even makes the move that gains most until none gains enough: a copy to another broker, or the lead to another copy.
func (p *planner) even(done int) {
	for moves := done; p.o.MovesMax == 0 || moves < p.o.MovesMax; moves++ {
		var x *Partition
		var at int
		var to *load
		best := gainMin
		for _, c := range p.parts {
			for i := range c.Replicas {
				if l := p.loads[c.Replicas[i]]; l == nil || l.b.Down {
					continue
				}
				for _, l := range p.order {
					if g := p.gain(c, i, l); g > best && p.fits(c, i, l) {
						x, at, to, best = c, i, l, g
					}
				}
				if g := p.leadGain(c, i); g > best {
					x, at, to, best = c, i, nil, g
				}
			}
		}
		switch {
		case x == nil:
			return
		case to != nil:
			p.put(x, at, to)
		default:
			p.count(x, -1)
			x.Replicas[0], x.Replicas[at] = x.Replicas[at], x.Replicas[0]
			p.count(x, 1)
		}
	}
}

// leadGain is what the cost falls by if the copy at index i becomes the preferred leader.
func (p *planner) leadGain(x *Partition, i int) float64 {
	a, b := p.loads[x.Replicas[0]], p.loads[x.Replicas[i]]
	if i == 0 || a == nil || b == nil || a.b.Down || b.b.Down || a.b.Leaving || b.b.Leaving {
		return 0
	}
	return p.costOf(a, 0, 0, 0, 0) - p.costOf(a, 0, -1, 0, 0) + p.costOf(b, 0, 0, 0, 0) - p.costOf(b, 0, 1, 0, 0)
}

// moves are the differences from what was.
func (p *planner) moves(was []Partition) []Move {
	old := map[string][]int32{}
	for i := range was {
		old[fmt.Sprint(was[i].Topic, "/", was[i].Number)] = was[i].Replicas
	}
	out := []Move{}
	for _, x := range p.parts {
		from := old[fmt.Sprint(x.Topic, "/", x.Number)]
		if slices.Equal(from, x.Replicas) {
			continue
		}
		m := Move{Topic: x.Topic, Partition: x.Number, From: from, To: slices.Clone(x.Replicas)}
		for _, id := range x.Replicas {
			if !slices.Contains(from, id) {
				m.Bytes += x.Bytes
			}
		}
		out = append(out, m)
	}
	return out
}
