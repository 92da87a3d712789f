package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// IncrementalAlterConfigs: v0-1. Sets, deletes, appends to and subtracts from single settings (KIP-339). Loggers are this broker's own
// and not in the metadata: they change here, at once, until the broker stops.

func incrementalAlterConfigs(c *Call, q *kmsg.IncrementalAlterConfigsRequest) {
	rest := *q
	rest.Resources = nil
	var loggers []kmsg.IncrementalAlterConfigsResponseResource
	for i := range q.Resources {
		if int8(q.Resources[i].ResourceType) == metadata.BrokerLoggerConfig {
			loggers = append(loggers, c.alterLoggers(&q.Resources[i], q.ValidateOnly))
		} else {
			rest.Resources = append(rest.Resources, q.Resources[i])
		}
	}
	propose(c, "incremental-alter-configs", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.IncrementalAlterConfigsResponse) {
		records, resp := ctl.IncrementalAlterConfigs(img, &rest, env)
		resp.Resources = append(resp.Resources, loggers...)
		return records, resp
	}, func(err error) *kmsg.IncrementalAlterConfigsResponse {
		resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
		resp.Resources = loggers
		for _, r := range rest.Resources {
			rr := kmsg.NewIncrementalAlterConfigsResponseResource()
			rr.ResourceType, rr.ResourceName, rr.ErrorCode, rr.ErrorMessage = r.ResourceType, r.ResourceName, wire.CodeOf(err), wire.MessageOf(err)
			resp.Resources = append(resp.Resources, rr)
		}
		return resp
	})
}

func (c *Call) alterLoggers(r *kmsg.IncrementalAlterConfigsRequestResource, validateOnly bool) kmsg.IncrementalAlterConfigsResponseResource {
	out := kmsg.NewIncrementalAlterConfigsResponseResource()
	out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
	have := c.Loggers.Levels()
	levels, err := controller.New(c.NodeID, c.Values()).AlterLoggers(func(name string) bool { _, ok := have[name]; return ok }, r)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
	} else if !validateOnly {
		c.Loggers.Set(levels)
	}
	return out
}
