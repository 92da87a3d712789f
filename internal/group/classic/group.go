package classic

import (
	"log/slog"
	"slices"
	"time"

	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/invariant"
)

// Config is what the broker's settings say about classic groups.
type Config struct {
	MinSession, MaxSession time.Duration // group.min.session.timeout.ms, group.max.session.timeout.ms
	MaxSize                int           // group.max.size
	// InitialDelay (group.initial.rebalance.delay.ms) is how long the first rebalance of an empty group waits for
	// more members; 0 answers the first one at once.
	InitialDelay time.Duration
	// FreshJoin is how long a new member's join may wait: its client cannot send heartbeats, and may be gone.
	FreshJoin time.Duration
	// MaxPending bounds the member ids given out and not yet used.
	MaxPending int
}

// DefaultConfig is Kafka's, but for the initial delay, which is 0.
func DefaultConfig() Config {
	return Config{
		MinSession: 6 * time.Second, MaxSession: 30 * time.Minute,
		MaxSize:   1<<31 - 1,
		FreshJoin: 5 * time.Minute, MaxPending: 10_000,
	}
}

// Env is what all groups of a shard share.
type Env struct {
	Config Config
	// Rebalances counts the generations begun, for metrics.
	Rebalances uint64
	// NewID gives a new unique text for a member id.
	NewID func() string
	Log   *slog.Logger
}

// Names of a group's timers.
const (
	timerJoin   = "join"
	timerSync   = "sync"
	timerMember = "member:"
)

// Group is one classic group. A group without protocol type is a simple one: offsets only, no members ever.
type Group struct {
	env *Env
	id  string

	state, previous State
	stateMs         int64 // when state was entered; -1 unknown (old records)
	generation      int32
	protocolType    string // "" until the first member comes
	protocol        string // "" while none is chosen
	leader          string // member id, "" for none

	members []*Member // in the order they joined
	byID    map[string]*Member
	byTimer map[string]*Member
	static  map[string]string   // instance id -> member id
	pending map[string]struct{} // member ids given out (KIP-394), not yet joined with
	unsync  map[string]struct{} // members of this generation that have not sent their sync
	votes   map[string]int      // protocol name -> members that support it

	joining int // members whose join waits
	// The first rebalance of an empty group is put off while new members keep coming.
	grew        bool
	initialLeft time.Duration

	subscribed      map[string]struct{} // topics of all members
	subscribedKnown bool                // false: some subscription could not be read
}

// New is an empty group of generation 0.
func New(env *Env, id string, nowMs int64) *Group {
	return &Group{
		env: env, id: id, stateMs: nowMs,
		byID: map[string]*Member{}, byTimer: map[string]*Member{}, static: map[string]string{}, pending: map[string]struct{}{},
		unsync: map[string]struct{}{}, votes: map[string]int{},
	}
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// State is the group's state.
func (g *Group) State() State { return g.state }

// StateName is the state as clients see it.
func (g *Group) StateName() string { return g.state.String() }

// ProtocolType is that of its members ("consumer", "connect"), "" for a group that never had any.
func (g *Group) ProtocolType() string { return g.protocolType }

// Generation counts the rebalances.
func (g *Group) Generation() int32 { return g.generation }

// Leader is the member id of the leader, "" for none.
func (g *Group) Leader() string { return g.leader }

// Protocol is the protocol chosen for this generation, "" for none.
func (g *Group) Protocol() string { return g.protocol }

// Size is the number of members.
func (g *Group) Size() int { return len(g.members) }

// Members are the members in the order they joined. The caller must not change them.
func (g *Group) Members() []*Member { return g.members }

// Member is the member of that id, nil for none.
func (g *Group) Member(id string) *Member { return g.byID[id] }

// Kind is effect.Classic.
func (g *Group) Kind() effect.Kind { return effect.Classic }

// IsEmpty tells whether the group has no member and expects none: no rebalance is under way, no member id given out.
func (g *Group) IsEmpty() bool { return g.state == Dead || g.state == Empty && len(g.pending) == 0 }

// Kill ends the group: its record has been deleted. Only an empty group dies, so nobody waits.
func (g *Group) Kill(nowMs int64) {
	if g.state != Dead {
		g.transition(Dead, nowMs)
	}
}

// add takes a member in; the first one gives the group its protocol type, and is its leader.
func (g *Group) add(m *Member, protocolType string) {
	invariant.Assert(g.byID[m.ID] == nil, "classic group %q: member %q added twice", g.id, m.ID)
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	if m.InstanceID != nil {
		invariant.Assert(g.static[*m.InstanceID] == "", "classic group %q: instance %q added twice", g.id, *m.InstanceID)
		g.static[*m.InstanceID] = m.ID
	}
	if g.leader == "" {
		g.leader = m.ID
	}
	g.members = append(g.members, m)
	g.byID[m.ID] = m
	m.timer = m.ID
	g.byTimer[m.timer] = m
	delete(g.pending, m.ID)
	g.count(m.Protocols, 1)
	if m.join.waits {
		g.joining++
	}
}

// remove takes a member out, cancels its timer and chooses the next leader. Its parked requests must be answered.
func (g *Group) remove(op *effect.Op, m *Member) {
	invariant.Assert(!m.join.waits && !m.sync.waits, "classic group %q: member %q removed while a request waits", g.id, m.ID)
	g.members = slices.DeleteFunc(g.members, func(x *Member) bool { return x == m })
	delete(g.byID, m.ID)
	delete(g.byTimer, m.timer)
	delete(g.unsync, m.ID)
	if m.InstanceID != nil && g.static[*m.InstanceID] == m.ID {
		delete(g.static, *m.InstanceID)
	}
	g.count(m.Protocols, -1)
	if g.leader == m.ID {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].ID
		}
	}
	g.disarm(op, m)
}

func (g *Group) count(ps []Protocol, by int) {
	for i := range ps {
		if g.votes[ps[i].Name] += by; g.votes[ps[i].Name] == 0 {
			delete(g.votes, ps[i].Name)
		}
	}
}

// setProtocols changes what a member supports.
func (g *Group) setProtocols(m *Member, ps []Protocol) {
	g.count(m.Protocols, -1)
	m.Protocols = ps
	g.count(ps, 1)
}

// selectProtocol lets every member vote for the first of its protocols that all support. A tie goes to the one that
// the members who joined first voted for.
func (g *Group) selectProtocol() string {
	invariant.Assert(len(g.members) > 0, "classic group %q: a protocol chosen by nobody", g.id)
	tally := map[string]int{}
	var order []string
	for _, m := range g.members {
		for i := range m.Protocols {
			if name := m.Protocols[i].Name; g.votes[name] == len(g.members) {
				if tally[name] == 0 {
					order = append(order, name)
				}
				tally[name]++
				break
			}
		}
	}
	best := ""
	for _, name := range order {
		if tally[name] > tally[best] {
			best = name
		}
	}
	return best
}

// electJoined makes sure that the leader is one who has joined this rebalance; false where nobody has.
func (g *Group) electJoined() bool {
	if l := g.byID[g.leader]; l != nil && l.join.waits {
		return true
	}
	for _, m := range g.members {
		if m.join.waits {
			g.leader = m.ID
			return true
		}
	}
	return false
}

// touch gives a member its time anew.
func (g *Group) touch(op *effect.Op, m *Member, d time.Duration) {
	m.deadline = op.Now.Add(d)
	if m.armed.IsZero() || m.armed.After(m.deadline) {
		op.Arm(g.id, m.timerName(), d)
		m.armed = m.deadline
	}
}

func (g *Group) touchSession(op *effect.Op, m *Member) {
	g.touch(op, m, time.Duration(m.SessionMs)*time.Millisecond)
}

func (g *Group) disarm(op *effect.Op, m *Member) {
	if !m.armed.IsZero() {
		op.Cancel(g.id, m.timerName())
		m.armed = time.Time{}
	}
}

// rebalanceTimeout is the longest that any member asks the others to wait.
func (g *Group) rebalanceTimeout() time.Duration {
	ms := int32(0)
	for _, m := range g.members {
		ms = max(ms, m.RebalanceMs)
	}
	return time.Duration(ms) * time.Millisecond
}

// Since is when the group came into its state, in milliseconds since the epoch; -1 unknown.
func (g *Group) Since() int64 { return g.stateMs }
