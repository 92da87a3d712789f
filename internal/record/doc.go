// Package record knows RecordBatch version 2, byte for byte: headers, checksums, records, codecs, control batches, and
// which batches a broker may accept. It works on bytes that it is given. It must never know topics, partitions, files,
// connections or the time of day: now comes as an argument.
package record
