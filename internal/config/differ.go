package config

// overridden are the broker configs whose default differs from Apache Kafka's on purpose. This is the only place.
var overridden = map[string]struct{ value, why string }{
	"broker.heartbeat.interval.ms":     {"100", "a heartbeat is cheap, and the silence of a machine is noticed sooner"},
	"broker.session.timeout.ms":        {"1000", "a machine that falls silent is replaced within a second or two"},
	"controller.listener.names":        {null, "a broker that is its own controller needs no separate listener"},
	"default.replication.factor":       {"3", "a record survives its broker as soon as there are three; with fewer brokers there are as many copies as brokers"},
	"group.initial.rebalance.delay.ms": {"0", "the first join of an empty group is answered at once"},
	"log.dir":                          {"ottla-data", "the folder below the current one, not a temporary folder that a reboot may empty"},
	"node.id":                          {null, "a new broker gives itself an id and keeps it in meta.properties"},
	"offsets.retention.minutes":        {"2147483647", "committed offsets of a living topic do not expire unless asked to"},
	"process.roles":                    {"broker,controller", "one process is a whole cluster unless told otherwise"},
}
