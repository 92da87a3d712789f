package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/telemetry"
	"github.com/ottla/ottla/internal/web"
)

// serveWeb opens the HTTP listener, where there is to be one. It is opened last: whoever reaches it reaches a broker that serves.
func (b *Broker) serveWeb(o Options, logs *log.Manager, pushed *telemetry.Manager) (err error) {
	address := config.HTTPListen.Get(o.Values)
	if address == "" {
		return nil
	}
	pages := prometheus.Gatherers{pushed}
	if o.Gatherer != nil {
		pages = append(pages, o.Gatherer)
	}
	b.web, err = web.Start(web.Options{Listen: address, AnyPort: o.HTTPAnyPort, Gatherer: pages, Logger: o.Logger, Ready: func() error {
		for _, d := range logs.Dirs() {
			if d.Online {
				return nil
			}
		}
		return errors.New("no log dir is online")
	}})
	if err != nil {
		return err
	}
	b.onStop("HTTP", b.web.Close)
	return nil
}

// HTTPAddr is where health and metrics are, "" where there is no HTTP listener.
func (b *Broker) HTTPAddr() string {
	if b.web == nil {
		return ""
	}
	return b.web.Addr().String()
}
