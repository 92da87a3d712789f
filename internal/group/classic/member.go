package classic

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
)

// Protocol is one way a member can be assigned, with what it wants its leader to know.
type Protocol struct {
	Name     string
	Metadata []byte
}

// parked is a request that waits for its answer.
type parked struct {
	waits   bool
	tok     coordinator.Token
	version int16
}

// Member is one member of a group.
type Member struct {
	ID         string
	InstanceID *string // of a static member
	ClientID   string
	ClientHost string
	// SessionMs is how long the member may be silent; RebalanceMs how long others wait for its rejoin.
	SessionMs, RebalanceMs int32
	Protocols              []Protocol // in the member's order of preference
	Assignment             []byte

	join, sync parked
	// fresh: never answered since it was added. It has no id to send heartbeats with, so its time is another.
	fresh bool
	// A heartbeat moves the deadline only; the timer, when it fires early, is set again for the rest.
	deadline, armed time.Time
	timer           string // its name: the first id, for a static member's id changes and its timer should not
}

func (m *Member) metadata(protocol string) []byte {
	for i := range m.Protocols {
		if m.Protocols[i].Name == protocol {
			return m.Protocols[i].Metadata
		}
	}
	return nil
}

// matches tells whether a join brings exactly what the member brought before.
func (m *Member) matches(ps []Protocol) bool {
	return slices.EqualFunc(ps, m.Protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

func (m *Member) timerName() string { return timerMember + m.timer }

// copyProtocols takes the metadata out of the request, whose bytes belong to a pooled buffer. Of protocols with the
// same name the first counts.
func copyProtocols(req []kmsg.JoinGroupRequestProtocol) []Protocol {
	ps := make([]Protocol, 0, len(req))
	seen := make(map[string]struct{}, len(req))
	for i := range req {
		if _, twice := seen[req[i].Name]; twice {
			continue
		}
		seen[req[i].Name] = struct{}{}
		ps = append(ps, Protocol{Name: req[i].Name, Metadata: append([]byte{}, req[i].Metadata...)})
	}
	return ps
}
