package api

import (
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/telemetry"
	"github.com/ottla/ottla/internal/wire"
)

// GetTelemetrySubscriptions: v0 (KIP-714). Which of its metrics a client should push, and how often. A client without an instance id
// gets one. Too early a request is THROTTLING_QUOTA_EXCEEDED.

func getTelemetrySubscriptions(c *Call, q *kmsg.GetTelemetrySubscriptionsRequest) {
	resp := kmsg.NewPtrGetTelemetrySubscriptionsResponse()
	s, err := c.Telemetry.Get(c.telemetryClient(), q.ClientInstanceID)
	if err != nil {
		resp.ErrorCode = wire.CodeOf(err)
		c.Reply(resp)
		return
	}
	resp.ClientInstanceID, resp.SubscriptionID, resp.PushIntervalMillis, resp.TelemetryMaxBytes = s.InstanceID, s.ID, s.IntervalMs, s.MaxBytes
	resp.AcceptedCompressionTypes, resp.RequestedMetrics, resp.DeltaTemporality = telemetry.Codecs(), s.Metrics, true
	c.Reply(resp)
}

// telemetryClient is who asks, for telemetry.
func (c *Call) telemetryClient() telemetry.Client {
	t := telemetry.Client{}
	if c.Req.Header.ClientID != nil {
		t.ID = *c.Req.Header.ClientID
	}
	t.SoftwareName, t.SoftwareVersion = c.Req.Conn.ClientSoftware()
	if t.SoftwareName == "" {
		t.SoftwareName, t.SoftwareVersion = "unknown", "unknown"
	}
	var err error
	if t.Address, t.Port, err = net.SplitHostPort(c.Req.Conn.RemoteAddr().String()); err != nil {
		t.Address = c.Req.Conn.RemoteAddr().String()
	}
	return t
}
