package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// DeleteTopics: v1-6. v6: by id as well (KIP-516).

func deleteTopics(c *Call, q *kmsg.DeleteTopicsRequest) {
	propose(c, "delete-topics", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.DeleteTopicsResponse) {
		return ctl.DeleteTopics(img, q, env)
	}, func(err error) *kmsg.DeleteTopicsResponse {
		resp := kmsg.NewPtrDeleteTopicsResponse()
		refuse := func(name *string, id [16]byte) {
			rt := kmsg.NewDeleteTopicsResponseTopic()
			rt.Topic, rt.TopicID, rt.ErrorCode, rt.ErrorMessage = name, id, wire.CodeOf(err), wire.MessageOf(err)
			resp.Topics = append(resp.Topics, rt)
		}
		for _, name := range q.TopicNames {
			refuse(&name, [16]byte{})
		}
		for _, t := range q.Topics {
			refuse(t.Topic, t.TopicID)
		}
		return resp
	})
}
