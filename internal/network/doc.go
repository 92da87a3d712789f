// Package network serves Kafka's wire protocol on listeners: connections, frames, the order of responses, and the limits that
// keep one client from using up the broker. It knows a Dispatch function and hands every request to it; it must never
// know an API, a topic or what a body means.
//
// # One connection
//
// A goroutine per connection reads a frame into a pooled buffer and calls Dispatch on it: the ordered half of a
// request, in the order of the connection. The answer may be given at once or later, from any goroutine; it is written
// in the order of the requests. Each request is a link in the connection's list; whoever finds the first link answered
// and nobody writing becomes the writer until the first link is unanswered again:
//
//	answered inside Dispatch   the reader writes after Dispatch has returned: no hand-off to another goroutine
//	answered later             a writer goroutine starts and ends with the work; the answering goroutine never blocks
//
// Small responses that are ready together leave in one writev, stretches of files by sendfile.
//
// # Limits
//
// Requests are charged to a gate of memory before they are read (gate.go); large frames grow as their bytes arrive, so
// that announcing one costs nothing. A connection has a bounded number and size of requests in flight and is not read
// further beyond it. One sweep over all connections every few seconds closes those that are idle, that do not finish a
// frame or do not take their responses (sweep.go): no connection has a timer. An idle connection costs its goroutine's
// stack, its file descriptor and less than a KiB.
package network
