// Package ottla runs a broker inside a Go program or a test: on a port, or reached through an in-process dialer only; on disk or
// in memory. It knows how to turn a few options into a broker; it must never know what a broker does.
//
//	b, err := ottla.Start(ctx, ottla.Options{InMemory: true})
//	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dial))
//	...
//	err = b.Close(ctx)
package ottla

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ottla/ottla/internal/broker"
	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/vnet"
)

// Options say which broker to start. The zero value is a broker on disk in ./ottla-data at a free port of the loopback.
type Options struct {
	// DataDir is the folder of the data, made if absent; log.dirs of Config otherwise.
	DataDir string
	// InMemory keeps everything in memory: nothing is left when the broker is closed.
	InMemory bool
	// Listen is host:port of a plain listener, with port 0 for a free one. "" takes `listeners` of Config and, where that is not
	// set either, 127.0.0.1:0. PipeOnly listens on no port at all: only Dial reaches the broker.
	Listen   string
	PipeOnly bool
	// Defaults are settings by Kafka's names that hold where nothing else sets them.
	Defaults map[string]string
	// Config are settings by Kafka's names; ConfigFile is a .yaml or .properties file, Environ variables (OTTLA_…) that go over it
	// and Set name=value pairs that go over both.
	Config     map[string]string
	ConfigFile string
	Environ    []string
	Set        []string
	// Logger gets what the broker has to say; nothing is logged without one. Level is changed when a client sets the root
	// logger's level.
	Logger *slog.Logger
	Level  *slog.LevelVar
	// Registerer gets the metrics; none are kept without one, but for an HTTP listener (`ottla.http.listen`), which then makes its own.
	Registerer prometheus.Registerer
	// HTTPAnyPort takes another port where that of `ottla.http.listen` is in use.
	HTTPAnyPort bool
}

// Broker is a running broker.
type Broker struct {
	b        *broker.Broker
	disk     vfs.OS
	addr     string
	dataDir  string
	warnings []string
}

// Start starts a broker; when it returns, the broker answers.
func Start(ctx context.Context, o Options) (*Broker, error) {
	values, warnings, err := load(&o)
	if err != nil {
		return nil, err
	}
	bo := broker.Options{Clock: clock.Real{}, Values: values, NodeID: nodeID(values), Logger: o.Logger, Level: o.Level}
	bo.HTTPAnyPort = o.HTTPAnyPort
	bo.Join = config.ClusterJoin.Get(values)
	bo.Registerer, bo.Gatherer = registry(o.Registerer, values)
	if bo.Logger == nil {
		bo.Logger = slog.New(slog.DiscardHandler)
	}
	if bo.Level == nil {
		bo.Level = new(slog.LevelVar)
	}
	for _, d := range logDirs(values) {
		bo.LogDirs = append(bo.LogDirs, strings.TrimSuffix(d, "/"))
	}
	if o.InMemory {
		bo.LogDirs = []string{"/data"}
	}
	protocols, err := network.ParseProtocolMap(config.ListenerSecurityProtocolMap.Get(values))
	if err != nil {
		return nil, err
	}
	endpoints, err := network.ParseListeners(strings.Join(config.Listeners.Get(values), ","), protocols)
	if err != nil {
		return nil, err
	}
	endpoints, skipped := served(endpoints, values)
	warnings = append(warnings, skipped...)
	if len(endpoints) == 0 {
		return nil, errors.New("listeners: none of them can be served; this release serves PLAINTEXT")
	}
	if bo.Advertised, err = network.ParseAdvertised(strings.Join(advertisedOf(values, endpoints), ","), endpoints, protocols); err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		l := network.ListenerConfig{Endpoint: e}
		if o.PipeOnly {
			l.Listen = func() (net.Listener, error) { return noPort{make(chan struct{})}, nil }
		}
		bo.Listeners = append(bo.Listeners, l)
	}
	var disk vfs.OS
	if bo.FS = vfs.NewMem(); !o.InMemory {
		disk = vfs.NewOS()
		bo.FS = disk
	}
	b, err := broker.Start(ctx, bo)
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	out := &Broker{b: b, disk: disk, dataDir: strings.Join(bo.LogDirs, ","), warnings: warnings, addr: "ottla:9092"}
	if !o.PipeOnly {
		out.addr = dialable(b.Addr())
	}
	return out, nil
}

// registry gives the page of metrics something to show: what the registerer holds, or a registry of its own.
func registry(r prometheus.Registerer, v *config.Values) (prometheus.Registerer, prometheus.Gatherer) {
	if g, ok := r.(prometheus.Gatherer); ok || r != nil || config.HTTPListen.Get(v) == "" {
		return r, g
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg, reg
}

// load gathers the settings: options over flags over the environment over the file.
func load(o *Options) (*config.Values, []string, error) {
	var l config.Loader
	if o.ConfigFile != "" {
		b, err := os.ReadFile(o.ConfigFile)
		if err != nil {
			return nil, nil, fmt.Errorf("configuration: %w; -c names a .yaml or .properties file", err)
		}
		l.File(o.ConfigFile, b)
	}
	l.Env(o.Environ)
	l.Set(o.Set)
	var own []string
	for k, v := range o.Config {
		own = append(own, k+"="+v)
	}
	if o.DataDir != "" {
		own = append(own, "log.dirs="+o.DataDir)
	}
	listen := o.Listen
	l.Set(own)
	set, warnings, err := l.Result()
	if err != nil {
		return nil, nil, err
	}
	for k, v := range o.Defaults {
		if _, ok := set[k]; !ok {
			if set == nil {
				set = map[string]string{}
			}
			set[k] = v
		}
	}
	if _, ok := set["listeners"]; !ok && listen == "" {
		listen = "127.0.0.1:0"
	}
	if set == nil {
		set = map[string]string{}
	}
	if listen != "" {
		set["listeners"] = "PLAINTEXT://" + listen
	}
	values, err := config.New(set)
	return values, warnings, err
}

func nodeID(v *config.Values) int32 {
	if config.NodeID.IsSet(v) {
		return int32(config.NodeID.Get(v))
	}
	return int32(config.BrokerID.Get(v))
}

func logDirs(v *config.Values) []string {
	if dirs := config.LogDirs.Get(v); len(dirs) > 0 {
		return dirs
	}
	return config.LogDir.Get(v)
}

// served leaves out the listeners of a Kafka configuration that this release does not serve: controllers' (one process is its
// own), TLS and SASL.
func served(all []network.Endpoint, v *config.Values) (out []network.Endpoint, warnings []string) {
	controllers := map[string]bool{}
	if names, ok := v.Text("controller.listener.names"); ok {
		for _, n := range strings.Split(names, ",") {
			controllers[strings.ToUpper(strings.TrimSpace(n))] = true
		}
	}
	for _, e := range all {
		switch {
		case controllers[e.Name]:
			warnings = append(warnings, fmt.Sprintf("listener %s is not opened: a broker that is its own controller needs none", e))
		case e.Protocol.TLS() || e.Protocol.SASL():
			warnings = append(warnings, fmt.Sprintf("listener %s is not opened: %s is not served by this release", e, e.Protocol))
		default:
			out = append(out, e)
		}
	}
	return out, warnings
}

// advertisedOf leaves out the advertised addresses of listeners that are not served.
func advertisedOf(v *config.Values, endpoints []network.Endpoint) []string {
	var out []string
	for _, a := range config.AdvertisedListeners.Get(v) {
		name, _, _ := strings.Cut(a, "://")
		for _, e := range endpoints {
			if strings.EqualFold(e.Name, name) {
				out = append(out, a)
			}
		}
	}
	return out
}

// dialable is an address that a client on this machine can dial.
func dialable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	host := t.IP.String()
	if t.IP.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(t.Port))
}

// HTTPAddr is where health and metrics are: host:port, "" without `ottla.http.listen`.
func (b *Broker) HTTPAddr() string { return b.b.HTTPAddr() }

// Addr is where clients find the broker: host:port. With PipeOnly it is a name that only Dial understands.
func (b *Broker) Addr() string { return b.addr }

// DataDir is the folder of the data, absolute; several are separated by commas.
func (b *Broker) DataDir() string {
	dirs := strings.Split(b.dataDir, ",")
	for i, d := range dirs {
		if abs, err := filepath.Abs(d); err == nil {
			dirs[i] = abs
		}
	}
	return strings.Join(dirs, ",")
}

// ClusterID is the id of the cluster.
func (b *Broker) ClusterID() string { return b.b.ClusterID() }

// Warnings are what of the configuration was ignored, and why.
func (b *Broker) Warnings() []string { return b.warnings }

// Dial connects to the broker inside the process, whatever the address: it is franz-go's kgo.Dialer.
func (b *Broker) Dial(_ context.Context, _, addr string) (net.Conn, error) {
	client, server := vnet.Pipe(realTime, vnet.Addr("client:0"), vnet.Addr(addr))
	if err := b.b.ServeConn(server); err != nil {
		return nil, err
	}
	return client, nil
}

// Close stops the broker: answers what is under way, flushes, closes. Nothing of it runs afterwards.
func (b *Broker) Close(ctx context.Context) error {
	return errors.Join(b.b.Close(ctx), b.disk.Close())
}

// realTime is the machine's clock, or that of a testing/synctest bubble.
var realTime = vnet.Time{Now: time.Now, AfterFunc: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }}

// noPort is a listener that nobody can reach.
type noPort struct{ closed chan struct{} }

func (n noPort) Accept() (net.Conn, error) {
	<-n.closed
	return nil, net.ErrClosed
}

func (n noPort) Close() error {
	close(n.closed)
	return nil
}

func (n noPort) Addr() net.Addr { return vnet.Addr("ottla:9092") }
