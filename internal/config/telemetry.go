package config

// Metrics that clients push.
var (
	TelemetryMaxBytes = integer("telemetry.max.bytes", "1048576", atLeast(1), low, readOnly,
		"Bytes of metrics that a client may push at once, compressed or not.")
	ClientMetricsIntervalMs = IntKey{def(ClientMetrics, Int, "interval.ms", "300000", nil, medium, clusterWide,
		"How often the clients push, in milliseconds: from 100 to 3600000.")}
	ClientMetricsMatch = ListKey{def(ClientMetrics, List, "match", "", anyList(), medium, clusterWide,
		"Which clients push: selector=regular expression, all of which must match the whole of what they look at. Selectors are client_instance_id, client_id, client_software_name, client_software_version, client_source_address and client_source_port. Empty is every client.")}
	ClientMetricsMetrics = ListKey{def(ClientMetrics, List, "metrics", "", anyList(), medium, clusterWide,
		"Prefixes of the names of the metrics to push; * is all of them, empty none.")}

	TelemetrySeriesMax = own(integer("ottla.telemetry.series.max", "50000", atLeast(100), low, readOnly,
		"Series of pushed metrics that are kept for all clients together; further ones are dropped and counted."))
	TelemetryClientSeriesMax = own(integer("ottla.telemetry.client.series.max", "2000", atLeast(10), low, readOnly,
		"Series of pushed metrics that are kept for one client instance; further ones are dropped and counted."))
)
