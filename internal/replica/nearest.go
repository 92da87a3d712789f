package replica

// servesReaders says whether a reader may be answered from this copy although another broker leads (KIP-392).
func (p *Partition) servesReaders() bool { return p.state.Load().Leader >= 0 }

// nearest is an in-sync replica in the reader's rack that has what it asks for; -1 where that is this broker, or none.
func (p *Partition) nearest(rack string, offset int64) int32 {
	if p.m.rackAware == nil || !p.m.rackAware() || p.m.image == nil || !p.replicated.Load() {
		return -1
	}
	img := p.m.image()
	inRack := func(id int32) bool {
		b := img.Broker(id)
		return b != nil && !b.Fenced && b.Rack != nil && *b.Rack == rack
	}
	if inRack(p.m.node) {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil {
		return -1
	}
	return p.leader.Nearest(offset, inRack)
}
