package network

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// reason is why a connection ended; its name is a label.
type reason uint8

const (
	reasonClient reason = iota
	reasonIdle
	reasonSlowSender
	reasonSlowReader
	reasonMalformed
	reasonTooLarge
	reasonHTTP
	reasonTLS
	reasonRequest
	reasonPanic
	reasonBug
	reasonIO
	reasonPerIP
	reasonShutdown
	reasons
)

func (r reason) String() string {
	return [reasons]string{"client", "idle", "slow_sender", "slow_reader", "malformed", "too_large", "http", "tls", "request", "panic", "bug", "io",
		"per_ip_limit", "shutdown"}[r]
}

// metrics counts in plain atomics; Prometheus reads them when it is asked.
type metrics struct {
	requests, requestBytes  atomic.Int64
	responseBytes           atomic.Int64
	sendfileBytes           atomic.Int64
	inFlight                atomic.Int64
	closed                  [reasons]atomic.Int64
	acceptWaits, acceptFail atomic.Int64
}

func (s *Server) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var cs []prometheus.Collector
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Int64) {
		cs = append(cs, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ottla_network_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		cs = append(cs, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ottla_network_" + name, Help: help, ConstLabels: labels}, f))
	}
	counter("requests_total", "Requests read.", nil, &s.m.requests)
	counter("request_bytes_total", "Bytes of requests read, size prefixes included.", nil, &s.m.requestBytes)
	counter("response_bytes_total", "Bytes of responses written, size prefixes included.", nil, &s.m.responseBytes)
	counter("sendfile_bytes_total", "Bytes of responses that the kernel copied from a file.", nil, &s.m.sendfileBytes)
	gauge("requests_in_flight", "Requests read whose response has not been written.", nil, func() float64 { return float64(s.m.inFlight.Load()) })
	gauge("request_memory_bytes", "Memory charged by requests that are read or handled.", nil, func() float64 { return float64(s.gate.used.Load()) })
	gauge("request_memory_limit_bytes", "Memory at which further requests wait to be read.", nil, func() float64 { return float64(s.gate.limit) })
	counter("request_memory_waits_total", "How often a request waited for memory before it was read.", nil, &s.gate.waits)
	counter("accept_waits_total", "How often a listener stopped accepting at max.connections or max.connection.creation.rate.", nil, &s.m.acceptWaits)
	counter("accept_failures_total", "Connections that the operating system failed to hand over.", nil, &s.m.acceptFail)
	for r := range reasons {
		counter("connections_closed_total", "Connections closed, by why.", prometheus.Labels{"reason": r.String()}, &s.m.closed[r])
	}
	for _, l := range s.listeners {
		labels := prometheus.Labels{"listener": l.Name}
		gauge("connections", "Open connections.", labels, func() float64 { return float64(l.open.Load()) })
		counter("connections_accepted_total", "Connections accepted.", labels, &l.accepted)
	}
	for _, c := range cs {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
