package coordinator

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a runtime's. They work unregistered as well.
type metrics struct {
	pending  atomic.Int64
	ops      *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	load     prometheus.Histogram
	failures prometheus.Counter
	panics   prometheus.Counter
	timers   prometheus.Counter
}

func newMetrics(name string, reg prometheus.Registerer, c *core) *metrics {
	labels := prometheus.Labels{"coordinator": name}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		ops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ottla_coordinator_ops_total", Help: "Operations answered, by outcome.", ConstLabels: labels}, []string{"op", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ottla_coordinator_op_seconds", ConstLabels: labels,
			Help: "From a request's arrival at the coordinator to its answer: queue, run, commit, and the wait of a parked one.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10)}, []string{"op"}),
		load: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ottla_coordinator_load_seconds", ConstLabels: labels,
			Help: "Time to load a partition's state from its log.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}),
		failures: counter("ottla_coordinator_failures_total", "Failed appends and loads, each of which loads the partition's state again."),
		panics:   counter("ottla_coordinator_panics_total", "Partitions quarantined by a bug."),
		timers:   counter("ottla_coordinator_timers_total", "Timers that have fired."),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f)
	}
	reg.MustRegister(m.ops, m.seconds, m.load, m.failures, m.panics, m.timers,
		gauge("ottla_coordinator_pending", "Answers that wait for a commit.", func() float64 { return float64(m.pending.Load()) }))
	for s := Initial; s < Closed; s++ {
		l := prometheus.Labels{"coordinator": name, "state": s.String()}
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ottla_coordinator_partitions", Help: "Partitions by state.", ConstLabels: l}, func() float64 {
			n := 0
			for _, p := range c.all() {
				if p.State() == s {
					n++
				}
			}
			return float64(n)
		}))
	}
	return m
}

func (m *metrics) observe(op string, took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.ops.WithLabelValues(op, outcome).Inc()
	m.seconds.WithLabelValues(op).Observe(took.Seconds())
}
