package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
)

// DescribeConfigs: v1-4. Settings of topics, this broker, groups, client metrics and loggers, with where each value comes from. v1:
// synonyms. v3: documentation.

func describeConfigs(c *Call, q *kmsg.DescribeConfigsRequest) {
	c.Reply(controller.DescribeConfigs(c.Image(), c.NodeID, c.Values(), c.Loggers.Levels(), q))
}
