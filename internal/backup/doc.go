// Package backup saves a cluster to a folder or a bucket and brings it back. It knows Kafka's protocol (any broker can be saved), the
// three messages that only Ottla has for it, batches and the records of the internal topics, and how a backup lies in its store. It
// must never know how a broker keeps its data, nor how progress is shown.
//
// A store holds objects under the hash of their bytes, each a run of whole batches of one partition, and one manifest for each backup, which
// is written last: a backup is there as a whole or not at all. What an earlier manifest names is not read again.
package backup
