package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// CreateTopics: v2-7. v4: defaults for partitions and replicas. v5: the topic's settings in the answer (KIP-525). v7: its id.

func createTopics(c *Call, q *kmsg.CreateTopicsRequest) {
	propose(c, "create-topics", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.CreateTopicsResponse) {
		return ctl.CreateTopics(img, q, env)
	}, func(err error) *kmsg.CreateTopicsResponse {
		resp := kmsg.NewPtrCreateTopicsResponse()
		for _, t := range q.Topics {
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.ErrorMessage, rt.NumPartitions, rt.ReplicationFactor = t.Topic, wire.CodeOf(err), wire.MessageOf(err), -1, -1
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	})
}
