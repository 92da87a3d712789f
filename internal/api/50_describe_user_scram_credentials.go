package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
)

// DescribeUserScramCredentials: v0. Which SCRAM credentials the metadata holds, without their secrets (KIP-554).

func describeUserScramCredentials(c *Call, q *kmsg.DescribeUserSCRAMCredentialsRequest) {
	c.Reply(controller.DescribeUserScram(c.Image(), q))
}
