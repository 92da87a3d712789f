package config

import (
	"testing"
	"time"
)

func TestLayers(t *testing.T) {
	v := MustNew(map[string]string{"log.retention.hours": "2", "num.partitions": "3", "log.cleaner.threads": "2"})
	if v.cell(NumPartitions.Def).source != SourceStatic || NumPartitions.Get(v) != 3 || LogCleanerThreads.Get(v) != 2 {
		t.Fatal("static")
	}
	v, refused := v.WithDynamic(map[string]string{"log.cleaner.threads": "3", "log.cleaner.backoff.ms": "x"}, map[string]string{"log.cleaner.threads": "4"})
	if LogCleanerThreads.Get(v) != 4 || len(refused) != 1 || LogCleanerBackoffMs.Get(v) != 15000 {
		t.Fatal("dynamic", refused)
	}
	if v, _ = v.WithDynamic(map[string]string{"log.cleaner.threads": "3"}, nil); LogCleanerThreads.Get(v) != 3 {
		t.Fatal("cluster default")
	}
	topic := v.Topic(nil)
	if got := TopicRetentionMs.Get(topic); got != 7_200_000 || TopicRetentionMs.Ms(topic) != 2*time.Hour {
		t.Fatal("retention.ms from log.retention.hours", got)
	}
	topic = v.Topic(map[string]string{"retention.ms": "5", "cleanup.policy": "compact", "nonsense": "1", "segment.bytes": "1"})
	if TopicRetentionMs.Get(topic) != 5 || TopicCleanupPolicy.Get(topic)[0] != "compact" || NumPartitions.Get(topic) != 3 || TopicSegmentBytes.Get(topic) != 1<<30 {
		t.Fatal("topic settings")
	}
	if v.Topic(nil) != v.Topic(map[string]string{}) {
		t.Fatal("topics without settings share one snapshot")
	}
	for set, want := range map[string]int64{"log.retention.minutes": 60_000, "log.retention.ms": 1} {
		if got := TopicRetentionMs.Get(MustNew(map[string]string{set: "1"}).Topic(nil)); got != want {
			t.Errorf("%s=1 gives %d", set, got)
		}
	}
	if got := TopicRetentionMs.Get(MustNew(map[string]string{"log.retention.hours": "-1"}).Topic(nil)); got != -1 {
		t.Errorf("log.retention.hours=-1 gives %d", got)
	}
	if got := OneGroupConsumerSessionTimeoutMs.Get(MustNew(map[string]string{"group.consumer.session.timeout.ms": "50000"}).Group(nil)); got != 50000 {
		t.Error("a group's session timeout comes from the broker", got)
	}
}

func TestReadsDoNotAllocate(t *testing.T) {
	v := MustNew(nil)
	topic := v.Topic(map[string]string{"retention.ms": "5"})
	n := testing.AllocsPerRun(100, func() {
		_ = TopicRetentionMs.Get(topic) + int64(NumPartitions.Get(topic)) + int64(len(TopicFlush.Get(topic)))
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestListenerOverrides(t *testing.T) {
	v := MustNew(map[string]string{"listener.name.internal.ssl.keystore.location": "/a", "ssl.keystore.location": "/b"})
	d, _ := Lookup(Broker, "ssl.keystore.location")
	k := StringKey{d}
	if k.Listener(v, "INTERNAL") != "/a" || k.Listener(v, "OTHER") != "/b" {
		t.Error(k.Listener(v, "INTERNAL"), k.Listener(v, "OTHER"))
	}
	if base, l, ok := listenerBase("listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config"); !ok || base != "sasl.jaas.config" || l != "sasl_plaintext" {
		t.Error(base, l, ok)
	}
	if p := v.Prefixed("listener.name.internal."); p["ssl.keystore.location"] != "/a" {
		t.Error(p)
	}
}

func TestDescribeBroker(t *testing.T) {
	v := MustNew(map[string]string{"sasl.jaas.config": "secret", "super.users": "User:a", "listener.name.x.plain.sasl.jaas.config": "s", "num.io.threads": "4", "log.retention.minutes": "5"})
	v, _ = v.WithDynamic(map[string]string{"min.insync.replicas": "1"}, map[string]string{"num.io.threads": "6"})
	entries := map[string]Entry{}
	for _, e := range v.Describe(DescribeOptions{Synonyms: true}) {
		entries[e.Name] = e
	}
	if len(entries) < 340 {
		t.Errorf("%d entries", len(entries))
	}
	for _, name := range []string{"sasl.jaas.config", "super.users", "listener.name.x.plain.sasl.jaas.config"} {
		if e, ok := entries[name]; !ok || e.Value != nil || !e.Sensitive {
			t.Errorf("%s: %+v", name, e)
		}
	}
	e := entries["num.io.threads"]
	if *e.Value != "6" || e.Source != SourceBroker || len(e.Synonyms) != 3 || e.Synonyms[1].Source != SourceStatic || *e.Synonyms[2].Value != "8" {
		t.Errorf("%+v", e)
	}
	if e := entries["log.retention.hours"]; len(e.Synonyms) != 1 || e.Source != SourceDefault {
		t.Errorf("%+v", e)
	}
	if e := entries["log.retention.minutes"]; len(e.Synonyms) != 2 || e.Source != SourceStatic { // then the hours' default
		t.Errorf("%+v", e)
	}
	if e := entries["unstable.api.versions.enable"]; e.Name != "" {
		t.Error("an internal config is shown")
	}
	if c := v.DescribeCluster(DescribeOptions{Synonyms: true}); len(c) != 1 || c[0].Source != SourceCluster {
		t.Errorf("%+v", c)
	}
}

func BenchmarkGet(b *testing.B) {
	topic := MustNew(nil).Topic(map[string]string{"retention.ms": "5"})
	for b.Loop() {
		_ = TopicRetentionMs.Get(topic)
	}
}

func BenchmarkWithDynamic(b *testing.B) {
	v := MustNew(nil)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = v.WithDynamic(map[string]string{"log.cleaner.threads": "3"}, nil)
	}
}
