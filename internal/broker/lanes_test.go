package broker

import (
	"sync"
	"testing"
)

// If this fails, the batches of a transaction change places, or one producer's slow append holds up another's.
func TestLanesKeepTheOrderOfAKeyAndDoNotHoldUpOthers(t *testing.T) {
	var l lanes
	hold, held := make(chan struct{}), make(chan struct{})
	l.Run(1, func() { close(held); <-hold })
	<-held
	var mu sync.Mutex
	var got []int
	for i := range 1000 {
		l.Run(1, func() { mu.Lock(); got = append(got, i); mu.Unlock() })
	}
	other := make(chan struct{})
	l.Run(2, func() { close(other) })
	<-other // though the first lane stands
	mu.Lock()
	if len(got) != 0 {
		t.Fatalf("%d calls overtook one before them", len(got))
	}
	mu.Unlock()
	close(hold)
	l.close()
	for i, n := range got {
		if i != n {
			t.Fatalf("call %d ran as number %d", n, i)
		}
	}
	if len(got) != 1000 {
		t.Fatalf("%d calls ran", len(got))
	}
}
