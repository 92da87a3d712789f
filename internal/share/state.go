// Package share is the share-partition: which records of one topic partition a share group has in flight, who holds them,
// until when, how often they were delivered, and from where on nothing is decided yet (KIP-932). It knows offsets and the
// persisted states; it must never know a request, a log, a clock, or how its states are kept.
package share

import "strconv"

// DeliveryState is the state of a record in flight; the numbers are those of the share coordinator's records.
type DeliveryState int8

// The states of KIP-932. Acquired is never persisted: a lease ends with the broker that gave it.
const (
	Available    DeliveryState = 0
	Acquired     DeliveryState = 1
	Acknowledged DeliveryState = 2
	Archiving    DeliveryState = 3 // on its way to the dead-letter topic (KIP-1191)
	Archived     DeliveryState = 4
)

// String names the state as Kafka does.
func (s DeliveryState) String() string {
	switch s {
	case Available:
		return "AVAILABLE"
	case Acquired:
		return "ACQUIRED"
	case Acknowledged:
		return "ACKNOWLEDGED"
	case Archiving:
		return "ARCHIVING"
	case Archived:
		return "ARCHIVED"
	default:
		return "UNKNOWN(" + strconv.Itoa(int(s)) + ")"
	}
}

// Terminal says that a record in this state is never delivered again.
func (s DeliveryState) Terminal() bool { return s == Acknowledged || s == Archived }
