package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// minISR is the config whose change makes eligible leader replicas meaningless.
const minISR = "min.insync.replicas"

// IncrementalAlterConfigs sets, deletes, appends to and subtracts from configs. Each resource succeeds or fails
// alone. Broker loggers are not in the metadata: they are answered by AlterLoggers.
func (c *Controller) IncrementalAlterConfigs(img *metadata.Image, req *kmsg.IncrementalAlterConfigsRequest, _ Env) (Records, *kmsg.IncrementalAlterConfigsResponse) {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	var records Records
	keys := make([]string, len(req.Resources))
	for i, r := range req.Resources {
		keys[i] = resourceKey(int8(r.ResourceType), r.ResourceName)
	}
	twice := setOf(duplicates(keys))
	for i := range req.Resources {
		r := &req.Resources[i]
		a := kmsg.NewIncrementalAlterConfigsResponseResource()
		a.ResourceType, a.ResourceName = r.ResourceType, r.ResourceName
		var recs Records
		err := error(wire.Errorf(kerr.InvalidRequest, "Each resource must appear at most once."))
		if !twice[keys[i]] {
			recs, err = c.alterResource(img, r)
		}
		a.ErrorCode, a.ErrorMessage = status(err)
		if err == errUnknownOp {
			a.ErrorMessage = nil
		}
		resp.Resources = append(resp.Resources, a)
		records = append(records, recs...)
	}
	if req.ValidateOnly {
		records = nil
	}
	return records, resp
}

func resourceKey(typ int8, name string) string { return strconv.Itoa(int(typ)) + ":" + name }

// errUnknownOp is an operation that the protocol does not have.
var errUnknownOp = fmt.Errorf("unknown operation: %w", kerr.UnknownServerError)

func (c *Controller) alterResource(img *metadata.Image, r *kmsg.IncrementalAlterConfigsRequestResource) (Records, error) {
	var names, nulls []string
	for _, s := range r.Configs {
		names = append(names, s.Name)
		if s.Value == nil && s.Op != kmsg.IncrementalAlterConfigOpDelete {
			nulls = append(nulls, s.Name)
		}
	}
	if len(duplicates(names)) > 0 {
		return nil, wire.Errorf(kerr.InvalidRequest, "Error due to duplicate config keys")
	}
	if len(nulls) > 0 {
		return nil, wire.Errorf(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(nulls, ", "))
	}
	typ := int8(r.ResourceType)
	if err := c.checkTarget(img, typ, r.ResourceName); err != nil {
		return nil, err
	}
	old := img.Config(typ, r.ResourceName)
	set := maps.Clone(old)
	if set == nil {
		set = map[string]string{}
	}
	for _, s := range r.Configs {
		if err := c.apply(img, set, typ, &s); err != nil {
			return nil, err
		}
	}
	return c.replace(img, typ, r.ResourceName, old, set)
}

// apply does one operation on the settings of a resource.
func (c *Controller) apply(img *metadata.Image, set map[string]string, typ int8, s *kmsg.IncrementalAlterConfigsRequestResourceConfig) error {
	switch s.Op {
	case kmsg.IncrementalAlterConfigOpSet:
		set[s.Name] = *s.Value
	case kmsg.IncrementalAlterConfigOpDelete:
		delete(set, s.Name)
	case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
		d, ok := definition(typ, s.Name)
		if !ok || d.Type != config.List {
			op := "APPEND"
			if s.Op == kmsg.IncrementalAlterConfigOpSubtract {
				op = "SUBTRACT"
			}
			return wire.Errorf(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", op, s.Name)
		}
		now, isSet := set[s.Name]
		if !isSet {
			now = c.listDefault(img, typ, d)
		}
		items, named := splitList(now), splitList(*s.Value)
		if s.Op == kmsg.IncrementalAlterConfigOpSubtract {
			gone := setOf(named)
			items = slices.DeleteFunc(items, func(x string) bool { return gone[x] })
		} else {
			have := setOf(items)
			for _, v := range named {
				if !have[v] {
					have[v] = true
					items = append(items, v)
				}
			}
		}
		set[s.Name] = strings.Join(items, ",")
	default:
		return errUnknownOp
	}
	return nil
}

func splitList(s string) []string {
	var out []string
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

// listDefault is what a list config of a resource is while it is not set there.
func (c *Controller) listDefault(img *metadata.Image, typ int8, d *config.Def) string {
	v := c.Values(img)
	switch typ {
	case metadata.TopicConfig:
		v = v.Topic(nil)
	case metadata.GroupConfig:
		v = v.Group(nil)
	case metadata.ClientMetricsConfig:
		v = v.ClientMetrics(nil)
	}
	return strings.Join(config.ListKey{Def: d}.Get(v), ",")
}

func definition(typ int8, name string) (*config.Def, bool) {
	scope := map[int8]config.Scope{metadata.TopicConfig: config.Topic, metadata.BrokerConfig: config.Broker,
		metadata.GroupConfig: config.Group, metadata.ClientMetricsConfig: config.ClientMetrics}[typ]
	return config.Lookup(scope, name)
}

// checkTarget refuses resources that cannot be altered whatever the settings.
func (c *Controller) checkTarget(img *metadata.Image, typ int8, name string) error {
	switch typ {
	case metadata.BrokerConfig:
		if id, err := strconv.ParseInt(name, 10, 32); err == nil && img.Broker(int32(id)) != nil {
			return nil // another broker passed it on: it is for that broker
		}
		return c.checkNode(name)
	case metadata.TopicConfig, metadata.GroupConfig, metadata.ClientMetricsConfig:
		return nil
	}
	return wire.Errorf(kerr.InvalidRequest, "Unknown resource type %d", typ)
}

// checkNode takes this node's id or, for the defaults of all brokers, nothing.
func (c *Controller) checkNode(name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return wire.Errorf(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", name)
	}
	if int32(id) != c.node {
		return wire.Errorf(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", c.node, name)
	}
	return nil
}

// replace checks the settings that a resource is to have and gives the records that lead there from what it has.
func (c *Controller) replace(img *metadata.Image, typ int8, name string, old, set map[string]string) (Records, error) {
	if err := c.checkSettings(img, typ, name, old, set); err != nil {
		return nil, err
	}
	var records Records
	for _, key := range sorted(set) {
		if was, ok := old[key]; !ok || was != set[key] {
			value := set[key]
			records.add(&schema.ConfigRecord{ResourceType: typ, ResourceName: name, Name: key, Value: &value})
		}
	}
	for _, key := range sorted(old) {
		if _, ok := set[key]; !ok {
			records.add(&schema.ConfigRecord{ResourceType: typ, ResourceName: name, Name: key})
		}
	}
	if old[minISR] != set[minISR] && img.Feature(eligibleLeaderReplicas) > 0 {
		switch {
		case typ == metadata.TopicConfig:
			records.add(&schema.ClearElrRecord{TopicName: name})
		case typ == metadata.BrokerConfig && name == "":
			records.add(&schema.ClearElrRecord{})
		}
	}
	return records, nil
}

func (c *Controller) checkSettings(img *metadata.Image, typ int8, name string, old, set map[string]string) error {
	v := c.Values(img)
	switch typ {
	case metadata.TopicConfig:
		if err := CheckTopicName(name); err != nil {
			return err
		}
		if img.Topic(name) == nil {
			return wire.Errorf(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", name)
		}
		return configError(config.ValidateTopic(v, set))
	case metadata.GroupConfig:
		if name == "" {
			return wire.Errorf(kerr.InvalidRequest, "Default group resources are not allowed.")
		}
		return configError(config.ValidateGroup(v, set))
	case metadata.ClientMetricsConfig:
		if name == "" {
			return wire.Errorf(kerr.InvalidRequest, "Default client metrics resources are not allowed.")
		}
		return configError(config.ValidateClientMetrics(set))
	}
	return checkBrokerSettings(img, name, old, set)
}

func checkBrokerSettings(img *metadata.Image, name string, old, set map[string]string) error {
	never, notAtCluster := config.NotDynamic(set)
	if len(never) > 0 {
		return wire.Errorf(kerr.InvalidRequest, "Cannot update these configs dynamically: [%s]", strings.Join(never, ", "))
	}
	if name == "" && len(notAtCluster) > 0 {
		return wire.Errorf(kerr.InvalidRequest, "Cannot update these configs at default cluster level, broker id must be specified: [%s]", strings.Join(notAtCluster, ", "))
	}
	if err := config.ValidateBroker(set); err != nil {
		return wire.Errorf(kerr.InvalidRequest, "Invalid config value for resource ConfigResource(type=BROKER, name='%s'): %s", name, err)
	}
	_, had := old[minISR]
	now, has := set[minISR]
	if img.Feature(eligibleLeaderReplicas) == 0 || had == has && old[minISR] == now {
		return nil
	}
	if name != "" {
		return wire.Errorf(kerr.InvalidConfig, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
	}
	if !has {
		return wire.Errorf(kerr.InvalidConfig, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
	}
	return nil
}

// AlterConfigs is the older request: it replaces everything that is set on a resource.
func (c *Controller) AlterConfigs(img *metadata.Image, req *kmsg.AlterConfigsRequest, _ Env) (Records, *kmsg.AlterConfigsResponse) {
	resp := kmsg.NewPtrAlterConfigsResponse()
	var records Records
	keys := make([]string, len(req.Resources))
	for i, r := range req.Resources {
		keys[i] = resourceKey(int8(r.ResourceType), r.ResourceName)
	}
	twice := setOf(duplicates(keys))
	for i := range req.Resources {
		r := &req.Resources[i]
		a := kmsg.NewAlterConfigsResponseResource()
		a.ResourceType, a.ResourceName = r.ResourceType, r.ResourceName
		var recs Records
		err := error(wire.Errorf(kerr.InvalidRequest, "Each resource must appear at most once."))
		if !twice[keys[i]] {
			recs, err = c.replaceResource(img, r)
		}
		a.ErrorCode, a.ErrorMessage = status(err)
		resp.Resources = append(resp.Resources, a)
		records = append(records, recs...)
	}
	if req.ValidateOnly {
		records = nil
	}
	return records, resp
}

func (c *Controller) replaceResource(img *metadata.Image, r *kmsg.AlterConfigsRequestResource) (Records, error) {
	set := map[string]string{}
	var names, nulls []string
	for _, s := range r.Configs {
		names = append(names, s.Name)
		if s.Value == nil {
			nulls = append(nulls, s.Name)
			continue
		}
		set[s.Name] = *s.Value
	}
	if len(duplicates(names)) > 0 {
		return nil, wire.Errorf(kerr.InvalidRequest, "Error due to duplicate config keys")
	}
	if len(nulls) > 0 {
		return nil, wire.Errorf(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(nulls, ", "))
	}
	typ := int8(r.ResourceType)
	if err := c.checkTarget(img, typ, r.ResourceName); err != nil {
		return nil, err
	}
	return c.replace(img, typ, r.ResourceName, img.Config(typ, r.ResourceName), set)
}

// logLevels are those that a broker logger may be set to.
var logLevels = []string{"DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"}

// AlterLoggers checks a change of broker loggers. levels holds the logger names and what is to become of them: a
// level, or "" for the level of the logger above. The change is the caller's to make; it is not in the metadata.
func (c *Controller) AlterLoggers(known func(logger string) bool, r *kmsg.IncrementalAlterConfigsRequestResource) (levels map[string]string, err error) {
	if err := c.checkNode(r.ResourceName); err != nil {
		return nil, err
	}
	levels = map[string]string{}
	for _, s := range r.Configs {
		if !known(s.Name) {
			return nil, wire.Errorf(kerr.InvalidConfig, "Logger %s does not exist!", s.Name)
		}
		switch s.Op {
		case kmsg.IncrementalAlterConfigOpSet:
			if s.Value == nil || !slices.Contains(logLevels, *s.Value) {
				value := "null"
				if s.Value != nil {
					value = *s.Value
				}
				return nil, wire.Errorf(kerr.InvalidConfig, "Cannot set the log level of %s to %s as it is not a supported log level. Valid log levels are %s", s.Name, value, strings.Join(logLevels, ", "))
			}
			levels[s.Name] = *s.Value
		case kmsg.IncrementalAlterConfigOpDelete:
			if s.Name == "root" {
				return nil, wire.Errorf(kerr.InvalidRequest, "Removing the log level of the root logger is not allowed")
			}
			levels[s.Name] = ""
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			return nil, wire.Errorf(kerr.InvalidRequest, "%s operation is not allowed for the BROKER_LOGGER resource", opNames[s.Op])
		default:
			return nil, wire.Errorf(kerr.InvalidRequest, "Unknown operation type %d is not allowed for the BROKER_LOGGER resource", s.Op)
		}
	}
	return levels, nil
}

var opNames = map[kmsg.IncrementalAlterConfigOp]string{kmsg.IncrementalAlterConfigOpAppend: "APPEND", kmsg.IncrementalAlterConfigOpSubtract: "SUBTRACT"}
