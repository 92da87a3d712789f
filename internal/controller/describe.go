package controller

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// An answer with documentation takes a thousand times what asks for it, so it has a bound: about so many bytes, counted as so many
// for each setting besides its documentation.
const (
	maxDescribedBytes = 64 << 20
	describedBytes    = 100
)

// DescribeConfigs answers for the resources that the client may describe. v are this broker's settings; loggers are
// its loggers and their levels. It does not use the controller's state: any broker answers for itself.
func DescribeConfigs(img *metadata.Image, node int32, v *config.Values, loggers map[string]string, req *kmsg.DescribeConfigsRequest) *kmsg.DescribeConfigsResponse {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	size, asked := 0, map[string]bool{}
	for i := range req.Resources {
		r := &req.Resources[i]
		if key := resourceKey(int8(r.ResourceType), r.ResourceName); asked[key] && len(r.ConfigNames) == 0 {
			continue // the whole of it is there, or part of it and a client that repeats itself
		} else if asked[key] = true; size > maxDescribedBytes {
			a := kmsg.NewDescribeConfigsResponseResource()
			a.ResourceType, a.ResourceName = r.ResourceType, r.ResourceName
			a.ErrorCode, a.ErrorMessage = status(wire.Errorf(kerr.InvalidRequest, "The answer would be larger than %d bytes; describe fewer resources at a time", maxDescribedBytes))
			resp.Resources = append(resp.Resources, a)
			continue
		}
		a := kmsg.NewDescribeConfigsResponseResource()
		a.ResourceType, a.ResourceName = r.ResourceType, r.ResourceName
		a.Configs = []kmsg.DescribeConfigsResponseResourceConfig{}
		o := config.DescribeOptions{Keys: r.ConfigNames, Synonyms: req.IncludeSynonyms, Docs: req.IncludeDocumentation}
		entries, err := describe(img, node, v, loggers, int8(r.ResourceType), r.ResourceName, o)
		if a.ErrorCode, a.ErrorMessage = status(err); a.ErrorMessage == nil || err == kerr.UnknownTopicOrPartition {
			a.ErrorMessage = new(string) // never null; the unknown topic has no story
		}
		for _, e := range entries {
			a.Configs = append(a.Configs, described(e))
			if size += describedBytes * (1 + len(e.Synonyms)); e.Doc != nil {
				size += len(*e.Doc)
			}
		}
		resp.Resources = append(resp.Resources, a)
	}
	return resp
}

func describe(img *metadata.Image, node int32, v *config.Values, loggers map[string]string, typ int8, name string, o config.DescribeOptions) ([]config.Entry, error) {
	switch typ {
	case metadata.TopicConfig:
		if err := CheckTopicName(name); err != nil {
			return nil, err
		}
		if img.Topic(name) == nil {
			return nil, kerr.UnknownTopicOrPartition
		}
		return v.Topic(img.Config(typ, name)).Describe(o), nil
	case metadata.BrokerConfig, metadata.BrokerLoggerConfig:
		if name == "" && typ == metadata.BrokerConfig {
			return v.DescribeCluster(o), nil
		}
		if err := checkOwnID(node, name, typ == metadata.BrokerConfig); err != nil {
			return nil, err
		}
		if typ == metadata.BrokerLoggerConfig {
			return describeLoggers(loggers, o), nil
		}
		return v.Describe(o), nil
	case metadata.ClientMetricsConfig:
		if name == "" {
			return nil, wire.Errorf(kerr.InvalidRequest, "Client metrics subscription name must not be empty")
		}
		return v.ClientMetrics(img.Config(typ, name)).Describe(o), nil
	case metadata.GroupConfig:
		if name == "" {
			return nil, wire.Errorf(kerr.InvalidRequest, "Group name must not be empty")
		}
		return v.Group(img.Config(typ, name)).Describe(o), nil
	}
	return nil, kerr.InvalidRequest
}

func checkOwnID(node int32, name string, emptyToo bool) error {
	id, err := strconv.ParseInt(name, 10, 32)
	switch {
	case err != nil:
		return wire.Errorf(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", name)
	case int32(id) == node:
		return nil
	case emptyToo:
		return wire.Errorf(kerr.InvalidRequest, "Unexpected broker id, expected %d or empty string, but received %s", node, name)
	}
	return wire.Errorf(kerr.InvalidRequest, "Unexpected broker id, expected %d but received %s", node, name)
}

func describeLoggers(loggers map[string]string, o config.DescribeOptions) []config.Entry {
	var out []config.Entry
	for _, name := range sorted(loggers) {
		if len(o.Keys) > 0 && !contains(o.Keys, name) {
			continue
		}
		level := loggers[name]
		out = append(out, config.Entry{Name: name, Value: &level, Source: config.SourceBrokerLogger, Type: config.String})
	}
	return out
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func described(e config.Entry) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.ReadOnly, c.IsSensitive, c.Documentation = e.Name, e.Value, e.ReadOnly, e.Sensitive, e.Doc
	c.Source, c.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	c.IsDefault = e.Source == config.SourceDefault
	c.ConfigSynonyms = make([]kmsg.DescribeConfigsResponseResourceConfigConfigSynonym, 0, len(e.Synonyms))
	for _, s := range e.Synonyms {
		k := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		k.Name, k.Value, k.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
		c.ConfigSynonyms = append(c.ConfigSynonyms, k)
	}
	return c
}

// ListConfigResources lists resources by type: every topic and broker, and what has settings of the others. Version
// 0 asks for client metrics. A type that this release does not know makes the whole answer UNSUPPORTED_VERSION.
func ListConfigResources(img *metadata.Image, groups []string, req *kmsg.ListConfigResourcesRequest) *kmsg.ListConfigResourcesResponse {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	resp.ConfigResources = []kmsg.ListConfigResourcesResponseConfigResource{}
	types := req.ResourceTypes
	switch {
	case req.Version == 0:
		types = []int8{metadata.ClientMetricsConfig}
	case len(types) == 0:
		types = []int8{metadata.TopicConfig, metadata.BrokerConfig, metadata.BrokerLoggerConfig, metadata.ClientMetricsConfig, metadata.GroupConfig}
	}
	add := func(typ int8, names ...string) {
		for _, n := range names {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = n, typ
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	answered := map[int8]bool{}
	for _, typ := range types {
		if answered[typ] {
			continue
		}
		answered[typ] = true
		switch typ {
		case metadata.TopicConfig:
			for _, t := range img.SortedTopics() {
				add(typ, t.Name)
			}
		case metadata.BrokerConfig, metadata.BrokerLoggerConfig:
			for _, b := range img.Brokers() {
				add(typ, itoa(b.ID))
			}
		case metadata.ClientMetricsConfig:
			add(typ, img.ConfigResources(typ)...)
		case metadata.GroupConfig:
			names := img.ConfigResources(typ)
			add(typ, names...)
			have := setOf(names)
			for _, g := range groups {
				if !have[g] {
					add(typ, g)
				}
			}
		default:
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			resp.ConfigResources = resp.ConfigResources[:0]
			return resp
		}
	}
	return resp
}
