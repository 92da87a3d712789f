package controller

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// The features whose levels gate formats and behaviour, as Kafka 4.4 names them.
const (
	eligibleLeaderReplicas = "eligible.leader.replicas.version"
	kraftVersion           = "kraft.version"
)

// DefaultMetadataVersion is the metadata.version that a new cluster starts with: the level of Kafka 4.4.
const DefaultMetadataVersion = 33

// SupportedFeatures are the levels that this release understands, by name.
func SupportedFeatures() []metadata.FeatureRange {
	return []metadata.FeatureRange{
		{Name: eligibleLeaderReplicas, Min: 0, Max: 1},
		{Name: "group.version", Min: 0, Max: 1},
		{Name: kraftVersion, Min: 0, Max: 1},
		{Name: metadata.MetadataVersion, Min: 7, Max: DefaultMetadataVersion},
		{Name: "share.version", Min: 0, Max: 2},
		{Name: "streams.version", Min: 0, Max: 1},
		{Name: "transaction.version", Min: 0, Max: 2},
	}
}

// FinalizedFeatures are the levels that the cluster has agreed on, kraft.version among them though it lives beside
// the records.
func FinalizedFeatures(img *metadata.Image) []metadata.FeatureRange {
	out := make([]metadata.FeatureRange, 0, 8)
	done := false
	for _, f := range img.Features() {
		if !done && f.Name > kraftVersion {
			out, done = append(out, metadata.FeatureRange{Name: kraftVersion, Min: 1, Max: 1}), true
		}
		out = append(out, f)
	}
	if !done {
		out = append(out, metadata.FeatureRange{Name: kraftVersion, Min: 1, Max: 1})
	}
	return out
}

// Bootstrap gives the first records of a new cluster: the feature levels of a new Kafka 4.4 cluster and the cluster's
// default for min.insync.replicas, which eligible leader replicas need.
func Bootstrap() Records {
	var r Records
	name := "Bootstrap records"
	r.add(&schema.BeginTransactionRecord{Name: &name})
	r.add(&schema.FeatureLevelRecord{Name: metadata.MetadataVersion, FeatureLevel: DefaultMetadataVersion})
	for _, f := range SupportedFeatures() {
		if f.Name != metadata.MetadataVersion && f.Name != kraftVersion {
			r.add(&schema.FeatureLevelRecord{Name: f.Name, FeatureLevel: f.Max})
		}
	}
	one := "1"
	r.add(&schema.ConfigRecord{ResourceType: metadata.BrokerConfig, Name: minISR, Value: &one})
	r.add(&schema.EndTransactionRecord{})
	return r
}

// Upgrade types of UpdateFeatures.
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

// UpdateFeatures raises or lowers feature levels, all of a request or none.
func (c *Controller) UpdateFeatures(img *metadata.Image, req *kmsg.UpdateFeaturesRequest, _ Env) (Records, *kmsg.UpdateFeaturesResponse) {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	var records Records
	seen := map[string]bool{}
	fail := func(err error) (Records, *kmsg.UpdateFeaturesResponse) {
		resp.ErrorCode, resp.ErrorMessage = status(err)
		return nil, resp
	}
	for _, u := range req.FeatureUpdates {
		if seen[u.Feature] {
			return fail(wire.Errorf(kerr.InvalidRequest, "Feature %s is named more than once.", u.Feature))
		}
		seen[u.Feature] = true
		typ := u.UpgradeType
		if req.Version == 0 {
			if typ = upgrade; u.AllowDowngrade {
				typ = safeDowngrade
			}
		}
		m, err := c.updateFeature(img, u.Feature, u.MaxVersionLevel, typ)
		if err != nil {
			return fail(wire.Errorf(kerr.InvalidUpdateVersion, "The update failed for all features since the following feature had an error: Invalid update version %d for feature %s. %s", u.MaxVersionLevel, u.Feature, err))
		}
		if m != nil {
			records.add(m)
		}
		if req.Version <= 1 {
			r := kmsg.NewUpdateFeaturesResponseResult()
			r.Feature = u.Feature
			resp.Results = append(resp.Results, r)
		}
	}
	if req.ValidateOnly {
		records = nil
	}
	return records, resp
}

// updateFeature gives the record that sets a feature's level, nil where it is there already.
func (c *Controller) updateFeature(img *metadata.Image, name string, level int16, typ int8) (schema.Message, error) {
	var known *metadata.FeatureRange
	for _, f := range SupportedFeatures() {
		if f.Name == name {
			known = &f
		}
	}
	switch now := img.Feature(name); {
	case typ < upgrade || typ > unsafeDowngrade:
		return nil, sentence("The controller does not support the given upgrade type.")
	case known == nil:
		return nil, sentence("Local controller %d does not support this feature.", c.node)
	case level < known.Min || level > known.Max:
		return nil, sentence("Local controller %d only supports versions %d-%d", c.node, known.Min, known.Max)
	case name == kraftVersion && level != 1:
		return nil, sentence("Can't lower the level of this feature.")
	case level == now || name == kraftVersion:
		return nil, nil
	case level < now && typ == upgrade:
		return nil, sentence("Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.")
	case level < now && name == metadata.MetadataVersion:
		return nil, sentence("Lowering metadata.version would lose records; it is refused.")
	case level > now && typ != upgrade:
		return nil, sentence("Can't downgrade to a newer version.")
	}
	for _, b := range img.Brokers() {
		ok := false
		for _, f := range b.Features {
			ok = ok || f.Name == name && f.Min <= level && level <= f.Max
		}
		if !ok && level > 0 {
			return nil, sentence("Broker %d does not support this feature.", b.ID)
		}
	}
	return &schema.FeatureLevelRecord{Name: name, FeatureLevel: level}, nil
}
