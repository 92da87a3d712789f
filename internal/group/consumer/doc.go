// Package consumer is the state machine of one consumer group (KIP-848), where the coordinator assigns: members send
// heartbeats and are told what is theirs. It knows members, epochs, subscriptions, target and current assignments and
// Kafka's records of them; it must never know offsets, other groups, permissions, a clock or a socket. It reads the
// metadata image: which topics there are, with how many partitions.
//
// Three epochs drive it. The group epoch grows when anything changes that an assignment depends on: a member, its
// subscription, the topics' metadata (kept as a hash). A target assignment is made for a group epoch. Every member
// moves to it at its own pace, and its member epoch says how far it has come:
//
//	Empty      no member
//	Assigning  the group epoch is ahead of the target assignment's
//	Reconciling  some member is not at the target yet
//	Stable     all are
//	Dead       the group is gone
//
// A member on its way to the target first gives up what is not its own any more (UnrevokedPartitions), until it says
// that it has, or is out when its rebalance timeout is over. Then it gets what is free; while something of its target
// is with others it waits (UnreleasedPartitions). A partition is given to a member only when no other one has it or
// has yet to give it up: that rule keeps every partition with one owner at most.
//
// All of that changes by replay only: an operation works out records on a draft, and the group takes them over when
// they are replayed. Timers are the exception: they are no state, and a group that is loaded sets them anew.
//
// A group may have members of the classic protocol while its members move from one protocol to the other. They join,
// sync and send heartbeats as in a classic group, are always followers, and are assigned like the rest.
package consumer
