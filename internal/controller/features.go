package controller

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// The features whose levels gate formats and behaviour, as Kafka 4.4 names them.
const (
	eligibleLeaderReplicas = "eligible.leader.replicas.version"
	kraftVersion           = "kraft.version"

	GroupVersion       = "group.version"       // 1: the consumer protocol
	ShareVersion       = "share.version"       // 1: share groups; 2: renewal and dead letters
	StreamsVersion     = "streams.version"     // 1: streams groups
	TransactionVersion = "transaction.version" // 2: KIP-890
)

// DefaultMetadataVersion is the metadata.version that a new cluster starts with: the level of Kafka 4.4.
const DefaultMetadataVersion = 33

// SupportedFeatures are the levels that this release understands, by name.
func SupportedFeatures() []metadata.FeatureRange {
	return []metadata.FeatureRange{
		{Name: eligibleLeaderReplicas, Min: 0, Max: 1},
		{Name: GroupVersion, Min: 0, Max: 1},
		{Name: kraftVersion, Min: 0, Max: 1},
		{Name: metadata.MetadataVersion, Min: 7, Max: DefaultMetadataVersion},
		{Name: ShareVersion, Min: 0, Max: 2},
		{Name: StreamsVersion, Min: 0, Max: 1},
		{Name: TransactionVersion, Min: 0, Max: 2},
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

// UpdateFeatures raises or lowers feature levels, all of a request or none. Version 0 can only raise them.
func (c *Controller) UpdateFeatures(img *metadata.Image, req *kmsg.UpdateFeaturesRequest, _ Env) (Records, *kmsg.UpdateFeaturesResponse) {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	var records Records
	for _, u := range req.FeatureUpdates {
		typ := u.UpgradeType
		if req.Version == 0 {
			typ = upgrade
		}
		recs, err := c.updateFeature(img, u.Feature, u.MaxVersionLevel, typ)
		if err != nil {
			resp.ErrorCode, resp.ErrorMessage = status(wire.Errorf(kerr.InvalidUpdateVersion, "The update failed for all features since the following feature had an error: %s", err))
			resp.Results = nil
			return nil, resp
		}
		records = append(records, recs...)
		if req.Version <= 1 {
			r := kmsg.NewUpdateFeaturesResponseResult()
			none := "NONE"
			r.Feature, r.ErrorMessage = u.Feature, &none
			resp.Results = append(resp.Results, r)
		}
	}
	if req.ValidateOnly {
		records = nil
	}
	return records, resp
}

// updateFeature gives the records that set a feature's level, none where it is there already.
func (c *Controller) updateFeature(img *metadata.Image, name string, level int16, typ int8) (Records, error) {
	now := img.Feature(name)
	if name == kraftVersion {
		now = 1
	}
	bad := func(format string, args ...any) error {
		return sentence("Invalid update version %d for feature %s. "+format, append([]any{level, name}, args...)...)
	}
	if err := c.checkLevel(img, name, level, bad); err != nil {
		return nil, err
	}
	switch {
	case typ < upgrade || typ > unsafeDowngrade:
		return nil, bad("The controller does not support the given upgrade type.")
	case level < now && name == kraftVersion:
		return nil, bad("Can't downgrade the version of this feature.")
	case level < now && typ == upgrade:
		return nil, bad("Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.")
	case level > now && typ != upgrade:
		return nil, bad("Can't downgrade to a newer version.")
	case level < now && name == metadata.MetadataVersion && typ == safeDowngrade:
		return nil, sentence("Unsupported metadata.version downgrade from %d to %d. Refusing to perform the requested downgrade because it might delete metadata information.", now, level)
	case level < now && name == metadata.MetadataVersion:
		return nil, sentence("Unsupported metadata.version downgrade from %d to %d. Unsafe metadata downgrade is not supported in this version.", now, level)
	case level == now:
		return nil, nil
	}
	var records Records
	records.add(&schema.FeatureLevelRecord{Name: name, FeatureLevel: level})
	if name == eligibleLeaderReplicas && now == 0 {
		c.settleMinISR(img, &records)
	}
	return records, nil
}

// checkLevel refuses levels that this release or a registered broker does not know.
func (c *Controller) checkLevel(img *metadata.Image, name string, level int16, bad func(format string, args ...any) error) error {
	supported := SupportedFeatures()
	i := slices.IndexFunc(supported, func(f metadata.FeatureRange) bool { return f.Name == name })
	switch {
	case level < 0:
		return bad("A feature version cannot be less than 0.")
	case i < 0 && level == 0:
		return bad("Feature %s not found.", name)
	case i < 0:
		return bad("Local controller %d does not support this feature.", c.node)
	case level < supported[i].Min || level > supported[i].Max:
		return bad("Local controller %d only supports versions %d-%d", c.node, supported[i].Min, supported[i].Max)
	}
	for _, b := range img.Brokers() {
		ok := slices.ContainsFunc(b.Features, func(f metadata.FeatureRange) bool { return f.Name == name && f.Min <= level && level <= f.Max })
		if !ok && level > 0 {
			return bad("Broker %d does not support this feature.", b.ID)
		}
	}
	return nil
}

// settleMinISR makes min.insync.replicas the same for every broker, as eligible leader replicas need it: a default of the
// cluster, and none of a single broker.
func (c *Controller) settleMinISR(img *metadata.Image, records *Records) {
	if _, ok := img.Config(metadata.BrokerConfig, "")[minISR]; !ok {
		value := strconv.Itoa(int(config.MinInsyncReplicas.Get(c.static)))
		records.add(&schema.ConfigRecord{ResourceType: metadata.BrokerConfig, Name: minISR, Value: &value})
	}
	for _, name := range img.ConfigResources(metadata.BrokerConfig) {
		if _, ok := img.Config(metadata.BrokerConfig, name)[minISR]; ok && name != "" {
			records.add(&schema.ConfigRecord{ResourceType: metadata.BrokerConfig, ResourceName: name, Name: minISR})
		}
	}
}
