// Package meter measures from a history how long each partition went without a produce acknowledgement, and what of that each fault
// has to answer for. It knows events; it must never know what made them, and has no clock of its own.
package meter

import (
	"slices"
	"time"

	"github.com/ottla/ottla/chaos/history"
)

// shortest gap that is kept.
const shortest = 100 * time.Millisecond

// Outage is a gap longer than this: it counts against availability.
const Outage = 500 * time.Millisecond

type gap struct{ from, to time.Duration }

// Window is one fault on the time line.
type Window struct {
	Name     string
	From, To time.Duration // To is when the next fault begins, or producing ends
	Leaders  []int32       // of the partitions, when it began
	Targets  []int32
}

// Meter takes events of one topic in. It is not safe for concurrent use; the recorder calls it one event at a time.
type Meter struct {
	topic string
	last  []time.Duration
	gaps  [][]gap
	acks  int64
	sent  map[history.Value]time.Duration // every 16th, to sample latency with bounded memory
	lat   []time.Duration
	begin time.Duration
	end   time.Duration
}

// New makes a meter for a topic.
func New(topic string, partitions int) *Meter {
	m := &Meter{topic: topic, last: make([]time.Duration, partitions), gaps: make([][]gap, partitions), sent: map[history.Value]time.Duration{}}
	return m
}

// Observe takes an event.
func (m *Meter) Observe(e history.Event) {
	if e.Value == nil || e.Value.Topic != m.topic {
		return
	}
	v := *e.Value
	switch e.Kind {
	case history.Sent:
		if m.begin == 0 {
			m.begin = e.At
		}
		if m.last[v.Partition] == 0 {
			m.last[v.Partition] = e.At
		}
		if v.Seq%16 == 0 {
			m.sent[v] = e.At
		}
	case history.Acked:
		m.acks++
		p := v.Partition
		if e.At-m.last[p] >= shortest {
			m.gaps[p] = append(m.gaps[p], gap{m.last[p], e.At})
		}
		m.last[p] = e.At
		m.end = e.At
		if at, ok := m.sent[v]; ok {
			m.lat = append(m.lat, e.At-at)
			delete(m.sent, v)
		}
	}
}

// Finish closes the gaps that are open when producing ends.
func (m *Meter) Finish(at time.Duration) {
	for p, last := range m.last {
		if at-last >= shortest {
			m.gaps[p] = append(m.gaps[p], gap{last, at})
		}
	}
	m.end = max(m.end, at)
}

// Stall is the longest time without an acknowledgement inside a window, by partition.
func (m *Meter) Stall(w Window) []time.Duration {
	out := make([]time.Duration, len(m.gaps))
	for p, gaps := range m.gaps {
		for _, g := range gaps {
			from, to := max(g.from, w.From), min(g.to, w.To)
			out[p] = max(out[p], to-from)
		}
	}
	return out
}

// Spread is the median and the worst.
type Spread struct {
	Median, Max time.Duration
	N           int
}

// SpreadOf durations.
func SpreadOf(d []time.Duration) Spread {
	if len(d) == 0 {
		return Spread{}
	}
	d = slices.Sorted(slices.Values(d))
	return Spread{Median: d[len(d)/2], Max: d[len(d)-1], N: len(d)}
}

// Split divides a window's stalls into those of partitions that a target led and those of the others.
func (m *Meter) Split(w Window) (led, others Spread) {
	var a, b []time.Duration
	for p, d := range m.Stall(w) {
		if p < len(w.Leaders) && slices.Contains(w.Targets, w.Leaders[p]) {
			a = append(a, d)
		} else {
			b = append(b, d)
		}
	}
	return SpreadOf(a), SpreadOf(b)
}

// Availability is the share of partition-time that does not lie in a gap longer than Outage.
func (m *Meter) Availability() float64 {
	total := (m.end - m.begin) * time.Duration(len(m.gaps))
	if total <= 0 {
		return 0
	}
	var out time.Duration
	for _, gaps := range m.gaps {
		for _, g := range gaps {
			if g.to-g.from > Outage {
				out += g.to - g.from
			}
		}
	}
	return 1 - float64(out)/float64(total)
}

// Latency gives the acknowledgement's latency at a quantile.
func (m *Meter) Latency(q float64) time.Duration {
	if len(m.lat) == 0 {
		return 0
	}
	d := slices.Sorted(slices.Values(m.lat))
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

// Acks is the number of acknowledgements.
func (m *Meter) Acks() int64 { return m.acks }
