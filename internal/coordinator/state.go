package coordinator

import "slices"

// State is where a partition stands.
type State int32

// The states of a partition.
const (
	Initial     State = iota // known, not loading yet
	Loading                  // replaying its log: COORDINATOR_LOAD_IN_PROGRESS
	Active                   // serving
	Failed                   // an append or a load failed, it will load again: COORDINATOR_LOAD_IN_PROGRESS
	Quarantined              // its shard panicked, nothing but a new leader epoch helps: UNKNOWN_SERVER_ERROR
	Closed                   // unloaded: NOT_COORDINATOR
)

var stateNames = [...]string{"initial", "loading", "active", "failed", "quarantined", "closed"}

// String is the state's name as logs and metrics have it.
func (s State) String() string { return stateNames[s] }

// legal holds the transitions there are; any other is a bug.
var legal = [...][]State{
	Initial:     {Loading, Closed},
	Loading:     {Active, Failed, Quarantined, Loading, Closed},
	Active:      {Failed, Quarantined, Loading, Closed},
	Failed:      {Loading, Closed},
	Quarantined: {Loading, Closed},
	Closed:      {},
}

func checkTransition(from, to State) {
	if !slices.Contains(legal[from], to) {
		panic("BUG: illegal coordinator transition [" + from.String() + " -> " + to.String() + "]")
	}
}
