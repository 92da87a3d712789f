// Package metadata is what a cluster knows of itself: an immutable Image, the Delta that leads from one image to the
// next, and the Publishers that are told of it.
//
// The only input is the metadata log: records of Kafka's own formats, replayed in order into a Delta. An Image is
// shared by every reader without a lock and never changes; a Delta copies only what it touches (one of 256 shards of
// a map, one topic, one partition), so the cost of a change does not grow with the cluster.
//
// It knows records and what they add up to. It must never know why a record was written, whether it may be, where
// the log is kept, or who follows it.
package metadata
