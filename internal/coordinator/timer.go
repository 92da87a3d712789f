package coordinator

import "github.com/ottla/ottla/internal/clock"

// timer is a shard's timer. The clock's own goroutine only puts an event into the mailbox; whether the timer still
// counts is decided there, where a cancellation that came first is known.
type timer struct{ t clock.Timer }

func (p *partition) setTimers(timers []Timer) {
	for _, t := range timers {
		if old := p.timers[t.Key]; old != nil {
			old.t.Stop()
			delete(p.timers, t.Key)
		}
		if t.After <= 0 {
			continue
		}
		key, tm := t.Key, &timer{}
		p.timers[key] = tm
		tm.t = p.c.clock.AfterFunc(t.After, func() {
			p.control(func() { p.onTimer(key, tm) })
		})
	}
}

func (p *partition) cancelTimers() {
	for key, t := range p.timers {
		t.t.Stop()
		delete(p.timers, key)
	}
}

func (p *partition) onTimer(key string, t *timer) {
	if p.timers[key] != t || p.State() != Active {
		return
	}
	delete(p.timers, key)
	res, err := p.shard.OnTimer(p.c.clock.Now(), key)
	if err != nil {
		p.c.logger.Warn("a timer's operation failed", "topic", p.c.topic, "partition", p.number, "timer", key, "err", err)
		return
	}
	p.c.metrics.timers.Inc()
	p.apply(effectsOf(&res, 0), nil)
}
