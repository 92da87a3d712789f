package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
)

// stats are telemetry's own metrics.
type stats struct {
	requests *prometheus.CounterVec
	bytes    prometheus.Counter
	dropped  prometheus.Counter
}

func newStats(reg prometheus.Registerer, m *Manager) *stats {
	s := &stats{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ottla_client_telemetry_pushes_total", Help: "Pushes of metrics by clients, by outcome; throttled ones with requests for subscriptions that came too early."}, []string{"outcome"}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_client_telemetry_bytes_total", Help: "Bytes of metrics that clients pushed, uncompressed."}),
		dropped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_client_telemetry_dropped_total", Help: "Pushed data points that were not kept because there were too many series or labels."}),
	}
	if reg != nil {
		reg.MustRegister(s.requests, s.bytes, s.dropped,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ottla_client_telemetry_instances", Help: "Client instances that have asked what to push and are remembered."}, func() float64 { return float64(m.count()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ottla_client_telemetry_series", Help: "Series of pushed metrics that are kept."}, func() float64 { return float64(m.pages.count()) }))
	}
	return s
}

func (s *stats) count(outcome string) { s.requests.WithLabelValues(outcome).Inc() }

func outcome(err error) string {
	switch {
	case err == nil:
		return "admitted"
	case errors.Is(err, kerr.ThrottlingQuotaExceeded):
		return "throttled"
	case errors.Is(err, kerr.UnknownSubscriptionID):
		return "unknown_subscription"
	case errors.Is(err, kerr.UnsupportedCompressionType):
		return "unsupported_compression"
	case errors.Is(err, kerr.TelemetryTooLarge):
		return "too_large"
	}
	return "refused"
}
