package replica

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"
)

// AppendRestored is Append of a backup's batches, which keep their offsets and epochs. The partition must be marked as being restored.
func (p *Partition) AppendRestored(batches []byte, o log.AppendOptions) error {
	l, err := p.Log()
	if err != nil {
		return err
	}
	if !p.Leads() {
		return p.notLeader()
	}
	o.LeaderEpoch = p.LeaderEpoch()
	_, err = l.AppendRestored(batches, o)
	if err == nil && p.replicated.Load() {
		p.m.appended(p)
	}
	return err
}

// BeginAt lets an empty log that is being restored begin at another offset.
func (p *Partition) BeginAt(offset int64) error {
	l, err := p.Log()
	if err != nil {
		return err
	}
	p.roleMu.Lock()
	defer p.roleMu.Unlock()
	if !p.Leads() {
		return p.notLeader()
	}
	if l.LogEnd().Offset != l.LogStartOffset() || !p.m.topicConfig(p.tp.Topic).Restoring {
		return wire.Errorf(kerr.InvalidRequest, "%s is not being restored, or not empty", p.tp)
	}
	if err := l.TruncateFully(offset); err != nil {
		return err
	}
	p.mu.Lock()
	p.leader = nil // what it knew of the log's end is void
	p.mu.Unlock()
	p.settle(l)
	return nil
}
