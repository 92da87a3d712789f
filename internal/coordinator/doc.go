// Package coordinator is the frame for every shard of a coordinator topic. It knows logs, records, timers and
// commits; it must never know groups, transactions or share partitions.
package coordinator
