package wire

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Error is a protocol error: a Kafka error code with a sentence for the person who reads it.
// errors.Is(err, kerr.X) holds for the code it carries.
type Error struct {
	Kerr *kerr.Error
	Msg  string
}

func (e *Error) Error() string { return e.Kerr.Message + ": " + e.Msg }

// Unwrap gives the Kafka error.
func (e *Error) Unwrap() error { return e.Kerr }

// Errorf makes a protocol error: what happened, to which topic, partition or client, why, and what to do next.
func Errorf(k *kerr.Error, format string, args ...any) error {
	return &Error{Kerr: k, Msg: fmt.Sprintf(format, args...)}
}

// CodeOf is the error code to answer for err: 0 for nil, UNKNOWN_SERVER_ERROR (-1) for one that is no protocol error.
func CodeOf(err error) int16 {
	if err == nil {
		return 0
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Code
	}
	return kerr.UnknownServerError.Code
}

// MessageOf is the error message to answer for err, nil where there is none.
func MessageOf(err error) *string {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return &e.Msg
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return &k.Description
	}
	msg := err.Error()
	return &msg
}
