package sharefetch

import "github.com/prometheus/client_golang/prometheus"

// metrics count what happens to records.
type metrics struct {
	leased       prometheus.Counter
	acknowledged *prometheus.CounterVec
	expired      prometheus.Counter
	letters      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	x := &metrics{
		leased: prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_share_records_leased_total", Help: "Records given to members of share groups."}),
		acknowledged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kafka_server_sharegroupmetrics_recordacknowledgements_total", Help: "Acknowledgements of records by type."}, []string{"ackType"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kafka_server_sharepartitionmetrics_acquisitionlocktimeout_total", Help: "Records whose lease ran out."}),
		letters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ottla_share_dead_letters_total", Help: "Records that went to a dead-letter topic, or could not (outcome=dropped)."}, []string{"outcome"}),
	}
	if reg != nil {
		reg.MustRegister(x.leased, x.acknowledged, x.expired, x.letters)
	}
	return x
}
