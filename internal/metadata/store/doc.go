// Package store keeps the metadata log of a cluster whose only voter is this node, in the files that Apache Kafka
// keeps it in, so that Kafka's tools read them:
//
//	D/meta.properties                                  version=1 cluster.id node.id directory.id, one per log dir
//	D/__cluster_metadata-0/<base %020d>.log            record batches, magic 2; control batches for leadership
//	D/__cluster_metadata-0/<end %020d>-<epoch %010d>.checkpoint   snapshots: header, records, footer
//	D/__cluster_metadata-0/quorum-state leader-epoch-checkpoint partition.metadata
//
// There is no format step: an empty directory becomes a new cluster. Every start of the process is a new leader
// epoch. Proposals that wait together become one batch, one write and one fsync; a proposal is answered when its
// batch is durable. A batch that is torn at the end of the log was never answered and is cut; one that is damaged
// before later batches is an error that stops the start, with the file and position.
//
// The package knows files, batches and epochs. It must never know what the records mean beyond replaying them into
// an image, nor who proposes them. On a node that
// follows others, a member of a quorum too, it only keeps what they committed (follow.go).
package store
