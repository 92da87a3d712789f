package telemetry

import (
	"encoding/binary"
	"hash/crc32"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
)

const (
	// everything asks for all of a client's metrics.
	everything = "*"
	// defaultIntervalMs is the interval of clients that nothing is asked of, and the longest there is.
	defaultIntervalMs = 300_000
)

// subscription is a client-metrics resource, ready to be matched.
type subscription struct {
	metrics    []string
	intervalMs int32
	match      map[string]*regexp.Regexp // by selector; all must match
}

// compile reads the settings of a client-metrics resource. They have been checked when they were set; a pattern that cannot be
// compiled all the same matches nobody.
func compile(v *config.Values) *subscription {
	s := &subscription{metrics: config.ClientMetricsMetrics.Get(v), intervalMs: int32(config.ClientMetricsIntervalMs.Get(v)), match: map[string]*regexp.Regexp{}}
	for _, m := range config.ClientMetricsMatch.Get(v) {
		key, pattern, _ := strings.Cut(m, "=")
		re, err := regexp.Compile("^(?:" + strings.TrimSpace(pattern) + ")$")
		if err != nil {
			re = nil
		}
		s.match[strings.TrimSpace(key)] = re
	}
	return s
}

func (s *subscription) matches(id metadata.UUID, c *Client) bool {
	for key, re := range s.match {
		if re == nil || !re.MatchString(selected(key, id, c)) {
			return false
		}
	}
	return true
}

// selected is what a selector looks at.
func selected(key string, id metadata.UUID, c *Client) string {
	switch key {
	case "client_instance_id":
		return idText(id)
	case "client_id":
		return c.ID
	case "client_software_name":
		return c.SoftwareName
	case "client_software_version":
		return c.SoftwareVersion
	case "client_source_address":
		return c.Address
	case "client_source_port":
		return c.Port
	}
	return ""
}

// wanted is what a client is asked for: the metrics of all subscriptions that match it, at the shortest of their intervals.
type wanted struct {
	metrics    []string
	intervalMs int32
}

func wantedOf(subs map[string]*subscription, id metadata.UUID, c *Client) wanted {
	w := wanted{metrics: []string{}, intervalMs: defaultIntervalMs}
	for _, s := range subs {
		if !s.matches(id, c) {
			continue
		}
		w.metrics = append(w.metrics, s.metrics...)
		w.intervalMs = min(w.intervalMs, s.intervalMs)
	}
	if slices.Contains(w.metrics, everything) {
		w.metrics = []string{everything}
	}
	slices.Sort(w.metrics)
	w.metrics = slices.Compact(w.metrics)
	return w
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// subscriptionID changes whenever what a client is asked for does. It is the same on every broker, so a client that moves to
// another one need not ask again.
func (w wanted) subscriptionID(id metadata.UUID) int32 {
	text := "[" + strings.Join(w.metrics, ", ") + "]" + strconv.Itoa(int(w.intervalMs))
	mixed := binary.BigEndian.Uint64(id[:8]) ^ binary.BigEndian.Uint64(id[8:])
	return int32(crc32.Checksum([]byte(text), castagnoli) ^ uint32(mixed>>32) ^ uint32(mixed))
}
