package wire

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrMalformed says that a request's bytes are not what its key and version promise. Such a connection is closed: there is
// nobody to answer to.
var ErrMalformed = errors.New("malformed request")

// Reader reads Kafka's primitive types from bytes, never beyond their end. After the first failure everything reads as zero
// and Err is set, so that a decoder may check once at its end; loops over a count end by themselves, as Count gives none
// that the remaining bytes could not hold.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads b, of which the slices it gives are parts.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Err is ErrMalformed after the first failure.
func (r *Reader) Err() error {
	if r.bad {
		return ErrMalformed
	}
	return nil
}

// Rest is what has not been read.
func (r *Reader) Rest() []byte { return r.b }

func (r *Reader) fail() {
	r.bad = true
	r.b = nil
}

// Int8 reads one byte.
func (r *Reader) Int8() int8 {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return int8(v)
}

// Int16 reads two bytes.
func (r *Reader) Int16() int16 {
	if len(r.b) < 2 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return int16(v)
}

// Int32 reads four bytes.
func (r *Reader) Int32() int32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return int32(v)
}

// Int64 reads eight bytes.
func (r *Reader) Int64() int64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return int64(v)
}

// UUID reads sixteen bytes.
func (r *Reader) UUID() (id [16]byte) {
	copy(id[:], r.Span(16))
	return id
}

// Uvarint reads an unsigned varint of 32 bits, 5 bytes at most.
func (r *Reader) Uvarint() uint32 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint32(v)
	}
	var v uint64
	for i := range min(len(r.b), 5) {
		c := r.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			r.b = r.b[i+1:]
			return uint32(v)
		}
	}
	r.fail()
	return 0
}

// Span gives the next n bytes without a copy.
func (r *Reader) Span(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// length reads the length of a string; -1 is null.
func (r *Reader) length(flexible bool) int {
	if flexible {
		return int(int64(r.Uvarint()) - 1)
	}
	return int(r.Int16())
}

// size reads the size of bytes, records or an array; -1 is null.
func (r *Reader) size(flexible bool) int {
	if flexible {
		return int(int64(r.Uvarint()) - 1)
	}
	return int(r.Int32())
}

// String gives a string's bytes without a copy; null is malformed.
func (r *Reader) String(flexible bool) []byte { return r.Span(r.length(flexible)) }

// NullableString gives a string's bytes without a copy, nil for null. An empty string is not nil.
func (r *Reader) NullableString(flexible bool) []byte {
	n := r.length(flexible)
	if n == -1 {
		return nil
	}
	return r.Span(n)
}

// NullableBytes gives bytes without a copy, nil for null. Empty bytes are not nil.
func (r *Reader) NullableBytes(flexible bool) []byte {
	n := r.size(flexible)
	if n == -1 {
		return nil
	}
	return r.Span(n)
}

// maxCount bounds every array of the hot requests: more topics or partitions than any cluster has.
const maxCount = 1 << 20

// Count reads the length of an array whose elements take minBytes or more each; null and lengths that the remaining bytes
// cannot hold are malformed.
func (r *Reader) Count(flexible bool, minBytes int) int {
	n := r.size(flexible)
	if r.bad {
		return 0
	}
	if n < 0 || n > maxCount || n*minBytes > len(r.b) {
		r.fail()
		return 0
	}
	return n
}

// Tags reads a block of tagged fields. known is called with each tag and a reader of its bytes, and says whether it knows the
// tag; nil skips them all.
func (r *Reader) Tags(known func(tag uint32, field *Reader)) {
	n := r.Uvarint()
	if int64(n)*2 > int64(len(r.b)) { // a tag and a size each
		r.fail()
		return
	}
	for range n {
		tag := r.Uvarint()
		span := r.Span(int(r.Uvarint()))
		if r.bad {
			return
		}
		if known != nil {
			field := Reader{b: span}
			known(tag, &field)
			if field.bad {
				r.fail()
				return
			}
		}
	}
}

// noTags skips the tagged fields of a version that has them.
func (r *Reader) noTags(flexible bool) {
	if flexible {
		r.Tags(nil)
	}
}

// keepString gives b as a string, the old one where it is the same: decoding into a used request allocates no names that it
// already holds.
func keepString(old string, b []byte) string {
	if old == string(b) {
		return old
	}
	return string(b)
}

// resize gives s with n elements, of which those that s had room for keep what they hold, slices to reuse above all.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	bigger := make([]T, n)
	copy(bigger, s[:cap(s)])
	return bigger
}

func appendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func appendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

func appendUvarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// uvarintSize is the number of bytes that appendUvarint appends.
func uvarintSize(v uint32) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

func appendString(dst []byte, flexible bool, s string) []byte {
	if flexible {
		dst = appendUvarint(dst, uint32(len(s))+1)
	} else {
		s = s[:min(len(s), math.MaxInt16)] // the longest this encoding knows
		dst = appendInt16(dst, int16(len(s)))
	}
	return append(dst, s...)
}

func appendNullableString(dst []byte, flexible bool, s *string) []byte {
	if s != nil {
		return appendString(dst, flexible, *s)
	}
	if flexible {
		return append(dst, 0)
	}
	return appendInt16(dst, -1)
}

// appendSize appends the length of an array or of bytes; -1 is null.
func appendSize(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return appendUvarint(dst, uint32(n+1))
	}
	return appendInt32(dst, int32(n))
}
