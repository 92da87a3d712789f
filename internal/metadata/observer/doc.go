// Package observer follows the metadata log of a quorum that this node is no voter of: it finds the active controller, fetches
// __cluster_metadata from it with Kafka's own Fetch and FetchSnapshot, and hands over what is committed, batch by batch.
//
// The quorum may be ours or Apache Kafka's. Kafka's leader hands out batches before they are committed, so what is above the high
// watermark is kept back here and dropped where the leader says that the logs part; ours never does. Nothing of what was handed over is
// ever taken back.
//
// It knows the two requests and the format of the log. It must never know what a record means, nor how a request reaches a node.
package observer
