package broker

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// If this fails, transactions of the protocol before KIP-890 go unnoticed, or one client fills the log.
func TestOldTransactionsAreCountedAndWarnedOfOnce(t *testing.T) {
	var out bytes.Buffer
	metrics := prometheus.NewRegistry()
	m := newMarkers(Options{Logger: slog.New(slog.NewTextHandler(&out, nil)), Registerer: metrics}, nil)
	defer m.close()
	for range 3 {
		m.warnOld("orders")
	}
	m.warnOld("payments")
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	if n := families[0].Metric[0].Counter.GetValue(); n != 4 {
		t.Errorf("counted %v transactions instead of 4", n)
	}
	if n := strings.Count(out.String(), "transactional_id=orders"); n != 1 {
		t.Errorf("%d warnings for one id:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "KIP-890") || !strings.Contains(out.String(), "transactional_id=payments") {
		t.Errorf("the log says %q", out.String())
	}
	for i := range warnedMax {
		m.warnOld(strconv.Itoa(i))
	}
	if len(m.warned) > warnedMax {
		t.Errorf("%d ids are remembered", len(m.warned))
	}
}
