package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
)

// DescribeClientQuotas: v0-1. The quotas that the metadata holds, by user, client id and address (KIP-546).

func describeClientQuotas(c *Call, q *kmsg.DescribeClientQuotasRequest) {
	c.Reply(controller.DescribeClientQuotas(c.Image(), q))
}
