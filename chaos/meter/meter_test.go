package meter

import (
	"testing"
	"time"

	"github.com/ottla/ottla/chaos/history"
)

func TestStallsAreCountedToTheirFault(t *testing.T) {
	const s = time.Second
	m := New("t", 2)
	ack := func(p int32, seq int64, at time.Duration) {
		v := history.Value{Topic: "t", Partition: p, Seq: seq}
		m.Observe(history.Event{Kind: history.Sent, Value: &v, At: at - 10*time.Millisecond})
		m.Observe(history.Event{Kind: history.Acked, Value: &v, At: at})
	}
	seq := int64(0)
	for at := s; at < 20*s; at += 50 * time.Millisecond {
		if at < 5*s || at >= 8*s { // partition 0, led by node 1, is silent for three seconds
			ack(0, seq, at)
		}
		ack(1, seq, at)
		seq++
	}
	m.Finish(20 * s)
	first := Window{From: 5 * s, To: 7 * s, Leaders: []int32{1, 2}, Targets: []int32{1}}
	led, others := m.Split(first)
	if led.N != 1 || led.Max != 2*s || others.N != 1 || others.Max != 0 {
		t.Fatalf("led %+v, others %+v: the stall is clipped at the next fault and is partition 0's", led, others)
	}
	if led, _ := m.Split(Window{From: 9 * s, To: 20 * s, Leaders: []int32{1, 2}, Targets: []int32{1}}); led.Max != 0 {
		t.Fatalf("%+v: a fault answers for a stall that was over", led)
	}
	if a := m.Availability(); a < 0.91 || a > 0.93 {
		t.Fatalf("availability %g of 3.05 s in 2 x 19 s", a)
	}
	if l := m.Latency(0.5); l != 10*time.Millisecond {
		t.Fatalf("median latency %v", l)
	}
}
