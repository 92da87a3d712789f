// Package classic is the state machine of one group of the classic rebalance protocol: JoinGroup, SyncGroup,
// Heartbeat, LeaveGroup. It knows members, generations, timeouts and the group's record; it must never know offsets,
// other groups, the metadata image, a clock or a socket.
//
//	         first join              all joined                leader's sync
//	Empty ----------------> Preparing ----------> Completing -------------------> Stable
//	  ^                     Rebalance  <--------- Rebalance                         |
//	  |                       |  ^   join, leave, timeout                           |
//	  +---- nobody is left ---+  +------------- join, leave, timeout ---------------+
//
// In PreparingRebalance the requests of the joining members wait (join purgatory): each is a parked token, answered
// when every known member has joined or the rebalance timeout has passed. In CompletingRebalance the followers' syncs
// wait for the leader's. Only Stable and Empty are written to the log; a group loaded from there is in one of the two.
//
// Static members (KIP-345) have an instance id: one that comes back takes its place over under a new member id,
// without a rebalance where nothing else changes, and the old member id is fenced from then on. A dynamic member's
// first join is answered with MEMBER_ID_REQUIRED and the id to come back with (KIP-394), so that a lost answer
// leaves no ghost behind.
package classic
