package controller

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/private"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Restore does one step of bringing a backup back. Each may be repeated: what is done already gives no records.
func (c *Controller) Restore(img *metadata.Image, req *private.RestoreMetadataRequest, env Env) (Records, error) {
	if req.Restore == "" {
		return nil, wire.Errorf(kerr.InvalidRequest, "a restore needs a name")
	}
	switch req.Step {
	case private.RestoreTopics:
		return c.restoreTopics(img, req, env)
	case private.RestoreCluster:
		return restoreCluster(img, req)
	case private.RestoreFinish:
		return finishRestore(img, req)
	}
	return nil, wire.Errorf(kerr.InvalidRequest, "a restore has no step %d", req.Step)
}

// restoring is the name of the restore that writes a topic, "" for none.
func restoring(img *metadata.Image, topic string) string {
	return img.Config(metadata.TopicConfig, topic)[config.TopicRestoring.Name]
}

func (c *Controller) restoreTopics(img *metadata.Image, req *private.RestoreMetadataRequest, env Env) (Records, error) {
	var records Records
	v := c.Values(img)
	taken := &collisions{img: img}
	total := 0
	for i := range req.Topics {
		t := &req.Topics[i]
		if total += len(t.LeaderEpochs); total > maxPartitionsPerRequest {
			return nil, wire.Errorf(kerr.PolicyViolation, "more than %d partitions in one step of a restore", maxPartitionsPerRequest)
		}
		if have := img.Topic(t.Name); have != nil {
			if restoring(img, t.Name) == req.Restore && len(have.Partitions) == len(t.LeaderEpochs) {
				continue
			}
			return nil, wire.Errorf(kerr.TopicAlreadyExists, "topic %s exists already; delete it, or restore under another name", t.Name)
		}
		if err := CheckTopicName(t.Name); err != nil {
			return nil, err
		}
		if other, ok := taken.with(t.Name); ok {
			return nil, wire.Errorf(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", t.Name, other)
		}
		recs, err := c.restoreTopic(img, v, t, req.Restore, env)
		if err != nil {
			return nil, err
		}
		env.Random++
		records = append(records, recs...)
	}
	return records, nil
}

func (c *Controller) restoreTopic(img *metadata.Image, v *config.Values, t *private.RestoreTopic, restore string, env Env) (Records, error) {
	set := map[string]string{config.TopicRestoring.Name: restore}
	for _, s := range t.Configs {
		set[s.Name] = s.Value
	}
	if err := config.ValidateTopic(v, set); err != nil {
		return nil, configError(fmt.Errorf("topic %s: %w", t.Name, err))
	}
	id := t.ID
	switch {
	case id == metadata.UUID{}:
		id = env.NewID()
	case img.TopicByID(id) != nil:
		return nil, wire.Errorf(kerr.TopicAlreadyExists, "the id of topic %s is that of topic %s here", t.Name, img.TopicByID(id).Name)
	}
	var records Records
	records.add(&schema.TopicRecord{Name: t.Name, TopicID: id})
	for _, s := range sorted(set) {
		value := set[s]
		records.add(&schema.ConfigRecord{ResourceType: metadata.TopicConfig, ResourceName: t.Name, Name: s, Value: &value})
	}
	pl := newPlacer(img, env.Random)
	copies := max(1, min(int(t.Replicas), len(pl.order)))
	for n := range t.LeaderEpochs {
		brokers, err := pl.place(copies)
		if err != nil {
			return nil, wire.Errorf(kerr.InvalidReplicationFactor, "topic %s: %s", t.Name, err)
		}
		// The leader epoch stays low until the end: the batches to come carry the epochs that they were written in.
		records.add(newPartition(img, brokers).Record(id, int32(n)))
	}
	return records, nil
}

// finishRestore opens topics to everybody: the mark goes, and every partition begins an epoch above all that its batches have, with
// which coordinators load what was restored.
func finishRestore(img *metadata.Image, req *private.RestoreMetadataRequest) (Records, error) {
	var records Records
	for i := range req.Topics {
		t := &req.Topics[i]
		topic := img.Topic(t.Name)
		if topic == nil || len(topic.Partitions) != len(t.LeaderEpochs) {
			return nil, wire.Errorf(kerr.UnknownTopicOrPartition, "topic %s is not here as it was restored", t.Name)
		}
		switch restoring(img, t.Name) {
		case "":
			continue // finished before
		case req.Restore:
		default:
			return nil, wire.Errorf(kerr.InvalidRequest, "topic %s is being written by another restore, %s", t.Name, restoring(img, t.Name))
		}
		records.add(&schema.ConfigRecord{ResourceType: metadata.TopicConfig, ResourceName: t.Name, Name: config.TopicRestoring.Name})
		for n, p := range topic.Partitions {
			r := p.Record(topic.ID, int32(n))
			r.LeaderEpoch = max(p.LeaderEpoch, t.LeaderEpochs[n]) + 1
			r.PartitionEpoch++
			records.add(r)
		}
	}
	return records, nil
}

// restoreCluster writes what belongs to no topic. Levels of features only rise, and producer ids go on above both clusters'.
func restoreCluster(img *metadata.Image, req *private.RestoreMetadataRequest) (Records, error) {
	var records Records
	for _, frame := range req.Records {
		m, _, err := schema.ReadMetadataRecord(frame)
		if err != nil {
			return nil, wire.Errorf(kerr.InvalidRequest, "a record of the backup cannot be read: %v", err)
		}
		switch m := m.(type) {
		case *schema.AccessControlEntryRecord:
			if _, there := img.ACLs().Get(m.ID); !there {
				records.add(m)
			}
		case *schema.UserScramCredentialRecord, *schema.ClientQuotaRecord:
			records.add(m)
		case *schema.ConfigRecord:
			if m.ResourceType == metadata.TopicConfig || m.ResourceType == metadata.BrokerConfig && m.ResourceName != "" {
				return nil, wire.Errorf(kerr.InvalidRequest, "settings of %s are not part of this step", m.ResourceName)
			}
			records.add(m)
		case *schema.FeatureLevelRecord:
			if m.FeatureLevel > img.Feature(m.Name) && slices.ContainsFunc(SupportedFeatures(), func(f metadata.FeatureRange) bool { return f.Name == m.Name && f.Max >= m.FeatureLevel }) {
				records.add(m)
			}
		case *schema.ProducerIdsRecord:
			if next := m.NextProducerID; next > img.NextProducerID() {
				r := *m
				r.BrokerID, r.BrokerEpoch = -1, -1
				records.add(&r)
			}
		default:
			return nil, wire.Errorf(kerr.InvalidRequest, "a %T is no part of a restore", m)
		}
	}
	return records, nil
}
