package classic

import (
	"slices"

	"github.com/ottla/ottla/internal/invariant"
)

// State is where a group is in its life.
type State uint8

// The states of a classic group.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead
)

// String is the state's name as clients see it.
func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}[s]
}

// legal lists where each state may go from.
var legal = map[State][]State{
	Empty:               {PreparingRebalance, Dead},
	PreparingRebalance:  {CompletingRebalance, Empty, Dead},
	CompletingRebalance: {Stable, PreparingRebalance, Dead},
	Stable:              {PreparingRebalance, Dead},
	Dead:                nil,
}

// CanGo tells whether the machine has an edge from one state to the other.
func (s State) CanGo(to State) bool { return slices.Contains(legal[s], to) }

func (g *Group) transition(to State, nowMs int64) {
	invariant.Assert(g.state.CanGo(to), "classic group %q: no transition %s -> %s", g.id, g.state, to)
	g.previous = g.state
	g.state = to
	g.stateMs = nowMs
}
