// Package web is the broker's side for people and their tools: one HTTP listener with the page of metrics and the two questions that
// orchestrators ask. It knows paths, answers and limits; it must never know what a metric means, what makes a broker ready,
// or any Kafka request.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout  = 10 * time.Second
	readTimeout    = 30 * time.Second
	writeTimeout   = 60 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
	// maxScrapes bounds the pages of metrics that are made at the same time; more are told 503.
	maxScrapes = 4
	// maxConns bounds the connections; more wait to be accepted.
	maxConns = 256
)

// Options say what is served and where.
type Options struct {
	Listen string // host:port; port 0 picks one
	// AnyPort takes another port of the same host where that of Listen is in use.
	AnyPort  bool
	Gatherer prometheus.Gatherer
	// Ready says why the broker cannot serve clients, nil when it can.
	Ready  func() error
	Logger *slog.Logger
}

// Server is a running listener.
type Server struct {
	http     *http.Server
	listener net.Listener
	done     sync.WaitGroup
}

// Start listens and serves.
func Start(o Options) (*Server, error) {
	l, err := listen(o.Listen, o.AnyPort)
	if err != nil {
		return nil, fmt.Errorf("HTTP listener %s: %w (see `ottla.http.listen`)", o.Listen, err)
	}
	s := &Server{listener: l, http: &http.Server{
		Handler: handler(o), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}}
	s.done.Go(func() {
		if err := s.http.Serve(&bounded{Listener: l, free: make(chan struct{}, maxConns), closed: make(chan struct{})}); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("the HTTP listener ended; metrics and health are not served any more", "address", l.Addr().String(), "error", err)
		}
	})
	return s, nil
}

func listen(address string, anyPort bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if anyPort && errors.Is(err, syscall.EADDRINUSE) {
		return net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close lets the requests under way finish, or ends them when ctx does. Nothing of the server runs afterwards.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.done.Wait()
	return err
}

func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "live\n") })
	mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		answer(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "Ottla\n\n/metrics       metrics of the broker and of clients that push theirs\n/health/live   200 while the process runs\n/health/ready  200 while the broker serves clients\n")
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// bounded accepts as many connections as may be open at the same time.
type bounded struct {
	net.Listener
	free   chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.free <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &counted{Conn: c, free: b.free}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

type counted struct {
	net.Conn
	once sync.Once
	free chan struct{}
}

func (c *counted) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
