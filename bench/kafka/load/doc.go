// Package load is the client side of the benchmarks against a Kafka-protocol broker: raw replay of ready-made requests,
// so that the broker and not the client is the bottleneck, and a full client where a user's view is wanted.
//
// It knows the Kafka protocol and clocks; it must never know which broker it loads, nor anything of Ottla's code.
package load
