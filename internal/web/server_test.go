package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + s.Addr().String()
}

func ask(t *testing.T, method, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestPages(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "letters_total"})
	reg.MustRegister(c)
	c.Add(3)
	var trouble atomic.Value
	trouble.Store("")
	_, url := start(t, Options{Gatherer: reg, Ready: func() error {
		if s := trouble.Load().(string); s != "" {
			return errors.New(s)
		}
		return nil
	}})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/metrics", 200, "letters_total 3"},
		{"GET", "/health/live", 200, "live"},
		{"GET", "/health/ready", 200, "ready"},
		{"HEAD", "/health/ready", 200, ""},
		{"GET", "/", 200, "/metrics"},
		{"GET", "/metrics/", 404, ""},
		{"GET", "/../etc/passwd", 404, ""},
		{"POST", "/health/live", 405, ""},
	} {
		if status, body := ask(t, c.method, url+c.path); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: %d %q", c.method, c.path, status, body)
		}
	}
	trouble.Store("no log dir is online")
	if status, body := ask(t, "GET", url+"/health/ready"); status != 503 || body != "not ready: no log dir is online\n" {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := ask(t, "GET", url+"/health/live"); status != 200 {
		t.Error("a broker that is not ready lives")
	}
}

// One family that cannot be gathered must not take the others from the page.
func TestOneBadFamily(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "good"}, func() float64 { return 1 }))
	bad := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("broken") })
	_, url := start(t, Options{Gatherer: prometheus.Gatherers{reg, bad}})
	if status, body := ask(t, "GET", url+"/metrics"); status != 200 || !strings.Contains(body, "good 1") {
		t.Errorf("%d %q", status, body)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Start(Options{Listen: l.Addr().String(), Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "ottla.http.listen") {
		t.Error(err)
	}
	s, url := start(t, Options{Listen: l.Addr().String(), AnyPort: true})
	if s.Addr().String() == l.Addr().String() {
		t.Error("the same port")
	}
	if status, _ := ask(t, "GET", url+"/health/live"); status != 200 {
		t.Error(status)
	}
	if _, err := Start(Options{Listen: "nonsense", AnyPort: true, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("an address without a port")
	}
}

// Close waits for the page under way and ends connections that only stay open; with too many of those, too.
func TestClose(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	slow := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { close(begun); <-release; return nil, nil })
	s, err := Start(Options{Listen: "127.0.0.1:0", Gatherer: slow, Ready: func() error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	go func() {
		status, _ := ask(t, "GET", "http://"+s.Addr().String()+"/metrics")
		got <- status
	}()
	<-begun
	var idle []net.Conn
	for range maxConns + 10 {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	closed := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, c := range idle {
		c.Close()
	}
	go func() { closed <- s.Close(ctx) }()
	select {
	case <-closed:
		t.Fatal("closed while a page was under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if status := <-got; status != 200 {
		t.Error(status)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
