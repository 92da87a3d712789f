// Package telemetry takes the metrics that clients push (KIP-714): who is asked for what, how often a client may push, what it
// pushed, and the page of metrics that is made of it.
//
// It knows client-metrics settings, client instances, OTLP and Prometheus' families. It must never know how a request
// arrived or who serves the page. Everything it keeps is bounded: instances, series, labels, and how long a silent client is
// remembered.
package telemetry

import (
	"encoding/base64"

	"github.com/ottla/ottla/internal/metadata"
)

// Client is who asks or pushes, as the connection tells.
type Client struct {
	ID                            string
	SoftwareName, SoftwareVersion string
	Address, Port                 string
}

func idText(id metadata.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }
