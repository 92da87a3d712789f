// Package streams is the state machine of one streams group (KIP-1071), where the coordinator assigns the tasks of a
// Kafka Streams application: members send heartbeats with the application's topology and are told which tasks are
// theirs. It knows members, topologies, epochs, target and current assignments and Kafka's records of them; it must never
// know offsets, other groups, permissions, a clock or a socket. It reads the metadata image: which topics there are, with
// how many partitions. Topics that are missing it only names: the caller makes them.
//
// A topology is made of subtopologies; each has as many tasks as the largest of its source topics has partitions. It is
// configured against the metadata whenever that changes: source topics have to be there and to be partitioned alike where
// they are joined, internal topics get their number of partitions. Until all is in place the group assigns nothing and
// tells its members why (Status).
//
// Epochs drive it as they drive consumer groups: the group epoch grows when anything changes that an assignment depends
// on, a target assignment is made for a group epoch, and every member moves to it at its own pace.
//
//	Empty        no member
//	NotReady     the topology is not known, or its topics are missing or do not fit
//	Assigning    the group epoch is ahead of the target assignment's
//	Reconciling  some member is not at the target yet
//	Stable       all are
//	Dead         the group is gone
//
// A member first gives up what is not its own any more (UnrevokedTasks), then gets what is free, and waits for what is not
// (UnreleasedTasks). An active task is free when no other member has it or has yet to give it up, and no other member of
// the same process has a copy of its state; a standby or warm-up task when the process has the task in no other role. So
// a task is processed by one member at most, and a process never opens a task's state twice.
//
// All of that changes by replay only. Timers, the offsets that members report, the endpoints' epoch, a shutdown that a
// member has asked for and the topology's description are not kept: a group that is loaded learns them anew.
package streams
