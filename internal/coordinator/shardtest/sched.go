package shardtest

import "sync"

// Sched runs the workers of a runtime when it is told to and in the order they were asked for, in the caller's
// goroutine: the same calls make the same run. Its Spawn is for coordinator.Options.
type Sched struct {
	mu    sync.Mutex
	queue []func()
}

// Spawn keeps f for Run.
func (s *Sched) Spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, f)
}

// Idle says whether there is nothing to run.
func (s *Sched) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0
}

// Run runs until there is nothing left.
func (s *Sched) Run() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.mu.Unlock()
			return
		}
		f := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		f()
	}
}
