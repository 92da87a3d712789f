package broker

import "github.com/ottla/ottla/internal/metadata"

// gate keeps the metadata from those who lead and follow partitions until the cluster has let this process serve. The image on disk is that
// of the process before: in its leader epochs there may be records that other brokers hold and this disk has lost, so nobody may go on in
// them (durable-offset rule R4). Once the active controller has registered this process, what it leads it leads in new epochs.
type gate struct {
	inner []metadata.Publisher
	// opens says whether an image is one that knows this process.
	opens func(img *metadata.Image) bool
	open  bool
}

// Name implements metadata.Publisher.
func (g *gate) Name() string { return "replicas and coordinators" }

// OnMetadata implements metadata.Publisher. The first image that is let through comes as a delta from nothing.
func (g *gate) OnMetadata(delta *metadata.Delta, img *metadata.Image) {
	if !g.open {
		if g.open = g.opens(img); !g.open {
			return
		}
		delta = metadata.Diff(metadata.Empty(img.ClusterID()), img)
	}
	for _, p := range g.inner {
		p.OnMetadata(delta, img)
	}
}

// serves says whether an image lets this process serve: it is registered, and not fenced. Where this broker is its own controller nobody is
// served before that.
func (b *Broker) serves(img *metadata.Image) bool {
	if b.cluster.sole {
		return true
	}
	life := b.life.Load()
	if life == nil {
		return false
	}
	me := img.Broker(life.r.Broker)
	return me != nil && !me.Fenced && me.IncarnationID == *life.incarnation.Load()
}
