package ottla_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla"
)

func page(t *testing.T, b *ottla.Broker, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + b.HTTPAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// subscribe asks clients for metrics.
func subscribe(t *testing.T, cl *kgo.Client, name string, set ...string) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeClientMetrics, name
	for _, s := range set {
		k, v, _ := strings.Cut(s, "=")
		r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: k, Value: &v})
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil || resp.Resources[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}
}

// If this fails, metrics that clients push are not on the page of metrics, or the HTTP listener outlives the broker.
func TestClientMetricsOnThePage(t *testing.T) {
	b := start(t, ottla.Options{InMemory: true, Config: map[string]string{"ottla.http.listen": "127.0.0.1:0"}})
	defer stop(t, b)
	if status, body := page(t, b, "/health/ready"); status != 200 {
		t.Fatal(status, body)
	}
	admin, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	subscribe(t, admin, "all", "metrics=org.apache.kafka.", "interval.ms=100", "match=client_id=letter.*")
	for _, id := range []string{"letters", "bills"} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ClientID(id), kgo.AllowAutoTopicCreation())
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if _, body := page(t, b, "/metrics"); id != "letters" || strings.Contains(body, `org_apache_kafka_producer_connection_creation_total{client_id="letters"`) {
				if !strings.Contains(body, "ottla_log_commit_rounds_total") {
					t.Error("the broker's own metrics are not on the page")
				}
				if strings.Contains(body, `client_id="bills"`) {
					t.Error("a client that no subscription matches is on the page")
				}
				break
			}
		}
	}
}

// Without a setting there is no listener, and a registry given from outside is the one on the page.
func TestHTTPListener(t *testing.T) {
	b := start(t, ottla.Options{InMemory: true})
	if a := b.HTTPAddr(); a != "" {
		t.Error(a)
	}
	stop(t, b)
	reg := prometheus.NewRegistry()
	b = start(t, ottla.Options{InMemory: true, Registerer: reg, Config: map[string]string{"ottla.http.listen": "127.0.0.1:0"}})
	defer stop(t, b)
	if _, body := page(t, b, "/metrics"); !strings.Contains(body, "ottla_network_") || strings.Contains(body, "go_goroutines") {
		t.Error("the page does not show the registry that was given")
	}
	if c, err := ottla.Start(t.Context(), ottla.Options{InMemory: true, Config: map[string]string{"ottla.http.listen": b.HTTPAddr()}}); err == nil || !strings.Contains(err.Error(), "ottla.http.listen") {
		t.Error(err)
		_ = c
	}
}

// If this fails, a restart forgets what clients were asked for, or makes them ask again although nothing has changed.
func TestSubscriptionsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	var ids [2]int32
	for life := range ids {
		b := start(t, ottla.Options{DataDir: dir})
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ClientID("letters"), kgo.DisableClientMetrics())
		if err != nil {
			t.Fatal(err)
		}
		if life == 0 {
			subscribe(t, cl, "all", "metrics=org.a,org.b", "interval.ms=5000", "match=client_id=letters,client_software_name=kgo")
		}
		req := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
		req.ClientInstanceID = [16]byte{1, 2, 3}
		resp, err := req.RequestWith(t.Context(), cl)
		if err != nil || resp.ErrorCode != 0 || resp.PushIntervalMillis != 5000 || strings.Join(resp.RequestedMetrics, " ") != "org.a org.b" {
			t.Errorf("life %d: %+v %v", life, resp, err)
		}
		ids[life] = resp.SubscriptionID
		cl.Close()
		stop(t, b)
	}
	if ids[0] != ids[1] {
		t.Errorf("subscriptions %v", ids)
	}
}
