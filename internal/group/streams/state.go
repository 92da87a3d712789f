package streams

// State is where a group is. It is worked out from members and epochs, not kept.
type State uint8

// The states of a group.
const (
	Empty State = iota
	NotReady
	Assigning
	Reconciling
	Stable
	Dead
)

// String is the state's name as clients see it.
func (s State) String() string {
	return [...]string{"Empty", "NotReady", "Assigning", "Reconciling", "Stable", "Dead"}[s]
}

// MemberState is how far a member is on its way to the target assignment. The values are those of the log.
type MemberState int8

// The states of a member.
const (
	MemberStable MemberState = 0
	// UnrevokedTasks: it has yet to say that it has given up what it must.
	UnrevokedTasks MemberState = 1
	// UnreleasedTasks: something of its target is with other members.
	UnreleasedTasks MemberState = 2
	// MemberUnknown is a state that another release wrote.
	MemberUnknown MemberState = 127
)

// State is the group's state.
func (g *Group) State() State {
	switch {
	case g.dead:
		return Dead
	case len(g.members) == 0:
		return Empty
	case g.topology == nil || g.topology.Epoch != g.validated:
		return NotReady
	case g.epoch > g.targetEpoch:
		return Assigning
	}
	for _, m := range g.members {
		if m.State != MemberStable || m.Epoch != g.targetEpoch {
			return Reconciling
		}
	}
	return Stable
}

// Member epochs in requests that are none.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2
)

// noEpoch stands for a topology epoch that is not there.
const noEpoch = -1

// firstEpoch is the epoch of a group that has just been made, with nothing to assign.
const firstEpoch = 1

// Status codes of a heartbeat's answer.
const (
	statusStaleTopology        = 0
	statusMissingSources       = 1
	statusIncorrectPartitions  = 2
	statusMissingInternal      = 3
	statusShutdown             = 4
	statusAssignmentDelayed    = 5
	statusMissingClientTags    = 6
	missingClientTagsVersion   = 1 // the first StreamsGroupHeartbeat whose clients understand it
	descriptionRequiredVersion = 1 // the first whose clients send descriptions (KIP-1331)
)
