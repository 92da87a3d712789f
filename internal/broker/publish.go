package broker

import (
	"log/slog"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/replica"
)

// settingsPublisher takes dynamic settings over before anybody acts on the same change.
type settingsPublisher struct {
	s      *settings
	logger *slog.Logger
}

func (p *settingsPublisher) Name() string { return "settings" }

func (p *settingsPublisher) OnMetadata(delta *metadata.Delta, img *metadata.Image) {
	for _, r := range delta.Configs() {
		switch r.Type {
		case metadata.BrokerConfig:
			for _, err := range p.s.refresh(img) {
				p.logger.Warn("a dynamic setting cannot be used and is left out", "error", err)
			}
		case metadata.TopicConfig:
			p.s.forget(r.Name)
		case metadata.GroupConfig:
			p.s.forgetGroup(r.Name)
		}
	}
	for _, t := range delta.Topics() {
		if t.New == nil {
			p.s.forget(t.Old.Name)
		}
	}
}

// replicaPublisher gives each of the broker's replicas the role that the metadata gives it.
type replicaPublisher struct {
	node     int32
	replicas *replica.Manager
}

func (p *replicaPublisher) Name() string { return "replicas" }

func (p *replicaPublisher) OnMetadata(delta *metadata.Delta, _ *metadata.Image) {
	// Settings come first: a topic whose restore has ended notes the epoch in which it is led from now on.
	for _, r := range delta.Configs() {
		switch r.Type {
		case metadata.TopicConfig:
			p.replicas.UpdateConfig(r.Name)
		case metadata.BrokerConfig:
			p.replicas.UpdateAllConfigs()
		}
	}
	for _, c := range delta.Local(p.node) {
		tp := log.TopicPartition{Topic: c.Topic.Name, Partition: c.Partition}
		if c.New == nil {
			p.replicas.Drop(tp)
		} else {
			p.replicas.Set(tp, c.Topic.ID, c.New)
		}
	}
}

const offsetsTopic = "__consumer_offsets"
