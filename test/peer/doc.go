// Package peer runs brokers as real processes for the tests and benchmarks that look at a broker from outside: Apache
// Kafka from its published jars (the peer) and Ottla built from cmd/ottla.
//
// It knows how to fetch, start, stop, kill and weigh such a process and how to call Kafka's own command line tools. It
// must never know what a test checks, and nothing of Ottla's inside: it reaches both brokers the same way.
//
// Everything fetched is kept below CacheDir, once for a machine. A toolchain that is absent is reported as ErrMissing,
// so that a test can skip and say why.
package peer
