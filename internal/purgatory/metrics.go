package purgatory

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts in plain atomics; Prometheus reads them when it is asked.
type metrics struct {
	waiting            atomic.Int64
	completed, expired atomic.Int64
}

func (m *metrics) register(name string, reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	labels := prometheus.Labels{"purgatory": name}
	read := func(v *atomic.Int64) func() float64 { return func() float64 { return float64(v.Load()) } }
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ottla_purgatory_waiting",
			Help: "Operations that wait for a change or their timeout.", ConstLabels: labels}, read(&m.waiting)),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ottla_purgatory_completed_total",
			Help: "Operations completed before their timeout, at once or after a wait.", ConstLabels: labels}, read(&m.completed)),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ottla_purgatory_expired_total",
			Help: "Operations whose timeout passed before they could be completed.", ConstLabels: labels}, read(&m.expired)),
	)
}
