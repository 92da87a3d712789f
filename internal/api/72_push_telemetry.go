package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/telemetry"
	"github.com/ottla/ottla/internal/wire"
)

// PushTelemetry: v0 (KIP-714). A client's metrics, in OTLP, perhaps compressed. They are shown on the page of metrics, by client.

func pushTelemetry(c *Call, q *kmsg.PushTelemetryRequest) {
	resp := kmsg.NewPtrPushTelemetryResponse()
	err := c.Telemetry.Push(c.telemetryClient(), telemetry.Push{InstanceID: q.ClientInstanceID, Subscription: q.SubscriptionID,
		Terminating: q.Terminating, Codec: q.CompressionType, Metrics: q.Metrics})
	if err != nil {
		c.Logger.Debug("pushed metrics were not taken", "client", c.telemetryClient().ID, "error", err)
	}
	resp.ErrorCode = wire.CodeOf(err)
	c.Reply(resp)
}
