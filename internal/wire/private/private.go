// Package private is the requests that only nodes of one cluster send each other, on the cluster listener: an envelope around bytes whose
// form belongs to whoever sends and serves them. It knows the envelope. It must never know what is inside.
//
//	request body    int32 length, payload
//	response body   int16 error code, int16 length and text of the error (-1: none), int32 length, payload
package private

import (
	"encoding/binary"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Keys of the private requests. They are in no ApiVersions answer.
const (
	Raft      int16 = 20001 // messages of the metadata quorum
	Join      int16 = 20002 // a new node asks for its place in the cluster
	AppendRaw int16 = 20003 // batches with their offsets, into a partition that is being restored
	State     int16 = 20004 // what a voter needs to catch up with the metadata log
)

// Is says whether a key is one of a private request.
func Is(key int16) bool { return key >= Raft && key <= State }

// Request is a private request; it implements kmsg.Request.
type Request struct {
	API     int16
	Payload []byte
}

// Response is its answer; it implements kmsg.Response.
type Response struct {
	API       int16
	ErrorCode int16
	Message   *string
	Payload   []byte
}

var errShort = errors.New("a private message is cut off")

// The version is always 0 and the form never flexible.

func (r *Request) Key() int16                  { return r.API }
func (*Request) MaxVersion() int16             { return 0 }
func (*Request) SetVersion(int16)              {}
func (*Request) GetVersion() int16             { return 0 }
func (*Request) IsFlexible() bool              { return false }
func (r *Request) ResponseKind() kmsg.Response { return &Response{API: r.API} }

// AppendTo writes the body.
func (r *Request) AppendTo(dst []byte) []byte { return appendBytes(dst, r.Payload) }

// ReadFrom reads the body; the payload shares its memory.
func (r *Request) ReadFrom(b []byte) (err error) {
	r.Payload, _, err = readBytes(b)
	return err
}

func (r *Response) Key() int16                { return r.API }
func (*Response) MaxVersion() int16           { return 0 }
func (*Response) SetVersion(int16)            {}
func (*Response) GetVersion() int16           { return 0 }
func (*Response) IsFlexible() bool            { return false }
func (r *Response) RequestKind() kmsg.Request { return &Request{API: r.API} }

// AppendTo writes the body.
func (r *Response) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.ErrorCode))
	if r.Message == nil {
		dst = binary.BigEndian.AppendUint16(dst, 0xffff)
	} else {
		m := *r.Message
		m = m[:min(len(m), 1<<14)]
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(m)))
		dst = append(dst, m...)
	}
	return appendBytes(dst, r.Payload)
}

// ReadFrom reads the body; the payload shares its memory.
func (r *Response) ReadFrom(b []byte) (err error) {
	if len(b) < 4 {
		return errShort
	}
	r.ErrorCode, r.Message = int16(binary.BigEndian.Uint16(b)), nil
	n := int(int16(binary.BigEndian.Uint16(b[2:])))
	if b = b[4:]; n >= 0 {
		if n > len(b) {
			return errShort
		}
		m := string(b[:n])
		r.Message, b = &m, b[n:]
	}
	r.Payload, _, err = readBytes(b)
	return err
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...)
}

func readBytes(b []byte) (value, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errShort
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:n:n], b[n:], nil
}
