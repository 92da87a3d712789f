package wire

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// apiVersionsKey is the API whose responses never have a flexible header: the client does not know yet what we speak.
const apiVersionsKey = 18

// flexibleFrom gives for each API key the first version with tagged fields.
var flexibleFrom = func() (from [kmsg.MaxKey + 1]int16) {
	for key := range from {
		from[key] = math.MaxInt16
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			if req.IsFlexible() {
				from[key] = v
				break
			}
		}
	}
	return from
}()

// Flexible says whether a version of an API has tagged fields. Versions that we do not know count as the newest we do.
func Flexible(key, version int16) bool {
	return key >= 0 && int(key) < len(flexibleFrom) && version >= flexibleFrom[key]
}

// RequestHeader is the head of every request.
type RequestHeader struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      *string // nil where the client gave none
}

// HeaderParser parses the headers of one connection's requests and keeps the client id, which is always the same: a header
// then costs no allocation. The zero value is ready.
type HeaderParser struct{ clientID *string }

// Parse reads a header and gives the body that follows it, a part of b. The error wraps ErrMalformed; Key, Version and
// CorrelationID are set as far as they could be read.
func (p *HeaderParser) Parse(b []byte) (h RequestHeader, body []byte, err error) {
	r := NewReader(b)
	h.Key, h.Version, h.CorrelationID = r.Int16(), r.Int16(), r.Int32()
	id := r.NullableString(false) // the old encoding in every version
	if r.bad {
		return h, nil, fmt.Errorf("%w: header of %d bytes", ErrMalformed, len(b))
	}
	if id != nil {
		if p.clientID == nil || *p.clientID != string(id) {
			s := string(id)
			p.clientID = &s
		}
		h.ClientID = p.clientID
	}
	if Flexible(h.Key, h.Version) {
		r.Tags(nil)
	}
	if r.bad {
		return h, nil, fmt.Errorf("%w: tagged fields of the header", ErrMalformed)
	}
	return h, r.b, nil
}

// ParseRequestHeader reads one header; see HeaderParser, which is cheaper for a connection.
func ParseRequestHeader(b []byte) (h RequestHeader, body []byte, err error) {
	var p HeaderParser
	return p.Parse(b)
}

// AppendResponseHeader appends the header of the response to a request.
func AppendResponseHeader(dst []byte, key, version int16, correlationID int32) []byte {
	dst = appendInt32(dst, correlationID)
	if key != apiVersionsKey && Flexible(key, version) {
		dst = append(dst, 0) // no tagged fields
	}
	return dst
}

// FrameSizeBytes is the size prefix in front of every request and response.
const FrameSizeBytes = 4

// BeginFrame appends an empty size prefix and the response header. EndFrame fills the size in.
func BeginFrame(dst []byte, key, version int16, correlationID int32) []byte {
	return AppendResponseHeader(append(dst, 0, 0, 0, 0), key, version, correlationID)
}

// EndFrame writes the size prefix of the frame that starts at dst[start]; extra counts the bytes that are sent in between but
// do not stand in dst, such as records. It gives the size written.
func EndFrame(dst []byte, start int, extra int64) int64 {
	size := int64(len(dst)-start-FrameSizeBytes) + extra
	appendInt32(dst[start:start:start+FrameSizeBytes], int32(size))
	return size
}
