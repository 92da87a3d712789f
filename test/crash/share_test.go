package crash

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ottla/ottla/test/queue"
)

// If this fails, a broker that dies loses records of a queue, or gives away what somebody had accepted and it had confirmed.
func TestKillUnderAShareGroup(t *testing.T) {
	if testing.Short() {
		t.Skip("kills real processes: not in -short")
	}
	runs := number(t, "OTTLA_CRASH_RUNS", 3)
	b := newBroker(t, queue.Broker())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+time.Duration(runs)*20*time.Second)
	defer cancel()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { b.Kill() }()
	a, err := queue.New(ctx, []string{b.Addr}, "queue", "workers", 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	consuming, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	for i := range 3 {
		all.Go(func() {
			if err := a.Consume(consuming, i); err != nil {
				t.Error(err)
			}
		})
	}
	producing, enough := context.WithCancel(ctx)
	var producers sync.WaitGroup
	producers.Go(func() { _ = a.Produce(producing, 1<<30) })
	for range runs {
		_, before, _, _ := a.Verdict()
		waitFor(t, time.Minute, "the group to move again", func() bool { _, given, _, _ := a.Verdict(); return given > before+300 })
		b.Kill()
		if err := b.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	enough()
	producers.Wait()
	if err := a.Decided(ctx); err != nil {
		t.Error(err)
	}
	stop()
	all.Wait()
	produced, given, confirmed, wrong := a.Verdict()
	t.Logf("%d kills: %d records produced, %d times given, %d acceptances confirmed", runs, produced, given, confirmed)
	for i, w := range wrong {
		if t.Error(w); i == 10 {
			break
		}
	}
	if confirmed < produced*8/10 {
		t.Errorf("too little was confirmed to prove anything")
	}
}
