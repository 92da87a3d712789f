// Package invariant holds the checks of things that cannot be otherwise. It knows nothing of Kafka.
package invariant

import "fmt"

// Assert panics with a message that starts with "BUG:" where cond does not hold.
func Assert(cond bool, format string, args ...any) {
	if !cond {
		panic("BUG: " + fmt.Sprintf(format, args...))
	}
}
