package schema

import (
	"encoding/binary"
	"fmt"
	"math"
)

// writer appends primitives. The first error sticks; what is written after it is thrown away by finish.
type writer struct {
	b        []byte
	flexible bool
	err      error
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *writer) unsupported(field string) { w.fail("field %s is not in this version", field) }

func (w *writer) finish(dst []byte, m Message, version int16) ([]byte, error) {
	if w.err != nil {
		return dst, fmt.Errorf("encode %s version %d: %w", m.MessageName(), version, w.err)
	}
	return w.b, nil
}

func (w *writer) bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}
func (w *writer) int8(v int8)       { w.b = append(w.b, byte(v)) }
func (w *writer) int16(v int16)     { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *writer) uint16(v uint16)   { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) int32(v int32)     { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *writer) uint32(v uint32)   { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) int64(v int64)     { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }
func (w *writer) float64(v float64) { w.b = binary.BigEndian.AppendUint64(w.b, math.Float64bits(v)) }
func (w *writer) uuid(v UUID)       { w.b = append(w.b, v[:]...) }
func (w *writer) uvarint(v uint64)  { w.b = binary.AppendUvarint(w.b, v) }

// length writes the length of a string (wide false) or of bytes or an array (wide true), -1 being null.
func (w *writer) length(n int, wide bool) {
	switch {
	case w.flexible:
		w.uvarint(uint64(n + 1))
	case wide && n <= math.MaxInt32:
		w.int32(int32(n))
	case !wide && n <= math.MaxInt16:
		w.int16(int16(n))
	default:
		w.fail("a length of %d is over what the format holds", n)
	}
}

func (w *writer) string(s string) {
	if len(s) > math.MaxInt16 { // Kafka holds compact strings to the same bound
		w.fail("a string of %d bytes is over what the format holds", len(s))
		return
	}
	w.length(len(s), false)
	w.b = append(w.b, s...)
}

func (w *writer) nullString(s *string) {
	if s == nil {
		w.length(-1, false)
		return
	}
	w.string(*s)
}

func (w *writer) bytes(p []byte) {
	w.length(len(p), true)
	w.b = append(w.b, p...)
}

func (w *writer) array(n int, null bool) {
	if null {
		n = -1
	}
	w.length(n, true)
}

// tagWriter writes the tag section of a struct: known and unknown fields in the order of their tags.
type tagWriter struct {
	w       *writer
	unknown []Tag
	n       int // known fields to come
	mark    int // where the size of the field being written stands
}

func (t *tagWriter) start() { t.w.uvarint(uint64(t.n + len(t.unknown))) }

func (t *tagWriter) begin(tag uint32) {
	for len(t.unknown) > 0 && t.unknown[0].Tag < tag {
		t.writeUnknown()
	}
	t.w.uvarint(uint64(tag))
	t.mark = len(t.w.b)
	t.w.b = append(t.w.b, 0) // the size nearly always takes one byte
}

func (t *tagWriter) end() {
	size := len(t.w.b) - t.mark - 1
	var enc [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(enc[:], uint64(size))
	if n > 1 {
		t.w.b = append(t.w.b, enc[:n-1]...)
		copy(t.w.b[t.mark+n:], t.w.b[t.mark+1:t.mark+1+size])
	}
	copy(t.w.b[t.mark:], enc[:n])
}

func (t *tagWriter) finish() {
	for len(t.unknown) > 0 {
		t.writeUnknown()
	}
}

func (t *tagWriter) writeUnknown() {
	u := t.unknown[0]
	t.unknown = t.unknown[1:]
	t.w.uvarint(uint64(u.Tag))
	t.w.uvarint(uint64(len(u.Data)))
	t.w.b = append(t.w.b, u.Data...)
}

// reader takes primitives off the front of b. The first error sticks and makes b empty, so that every loop ends.
type reader struct {
	b        []byte
	flexible bool
	err      error
	outer    *reader // of a tagged field's reader: the struct's
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

func (r *reader) finish(m Message, version int16) error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("decode %s version %d: %w", m.MessageName(), version, r.err)
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("%d bytes needed, %d left", n, len(r.b))
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) uint8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) bool() bool       { return r.uint8() != 0 }
func (r *reader) int8() int8       { return int8(r.uint8()) }
func (r *reader) int16() int16     { return int16(r.uint16()) }
func (r *reader) int32() int32     { return int32(r.uint32()) }
func (r *reader) int64() int64     { return int64(r.uint64()) }
func (r *reader) float64() float64 { return math.Float64frombits(r.uint64()) }

func (r *reader) uuid() (u UUID) {
	copy(u[:], r.take(16))
	return u
}

// uvarint reads an unsigned varint of at most 32 bits, which is all the protocol has.
func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxUint32 {
		r.fail("a broken varint")
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

// length reads a length, -1 for null, and holds it to what is left at size bytes each.
func (r *reader) length(wide bool, size int) int {
	var n int
	switch {
	case r.flexible:
		n = int(r.uvarint()) - 1
	case wide:
		n = int(r.int32())
	default:
		n = int(r.int16())
	}
	if n < -1 || n > len(r.b)/size {
		r.fail("a length of %d with %d bytes left", n, len(r.b))
		return -1
	}
	return n
}

func (r *reader) notNull(n int) int {
	if n < 0 {
		r.fail("null where the format has none")
		return 0
	}
	return n
}

func (r *reader) string() string { return string(r.take(r.notNull(r.length(false, 1)))) }

func (r *reader) nullString() *string {
	n := r.length(false, 1)
	if n < 0 {
		return nil
	}
	s := string(r.take(n))
	return &s
}

func (r *reader) bytes() []byte {
	n := r.notNull(r.length(true, 1))
	if n == 0 {
		return nil
	}
	return append([]byte(nil), r.take(n)...)
}

// array reads the count of an array whose elements take at least size bytes each.
func (r *reader) array(size int) int { return r.notNull(r.length(true, size)) }

func (r *reader) nullArray(size int) int { return r.length(true, size) }

func (r *reader) tagCount() int {
	n := int(r.uvarint())
	if n > len(r.b)/2 {
		r.fail("%d tagged fields with %d bytes left", n, len(r.b))
		return 0
	}
	return n
}

// tag reads a tag and gives a reader over its field alone; endTag comes back from it.
func (r *reader) tag() (uint32, *reader) {
	tag, size := r.uvarint(), r.uvarint()
	if int64(size) > int64(len(r.b)) {
		r.fail("a tagged field of %d bytes with %d left", size, len(r.b))
		size = 0
	}
	return tag, &reader{b: r.take(int(size)), flexible: r.flexible, err: r.err, outer: r}
}

func (r *reader) unknown(tag uint32) Tag {
	data := append([]byte(nil), r.b...)
	r.b = nil
	return Tag{Tag: tag, Data: data}
}

// endTag ends a tagged field, which must have been read whole, and says whether reading can go on.
func (r *reader) endTag() bool {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many in a tagged field", len(r.b))
	}
	if r.err != nil {
		if r.outer.err == nil {
			r.outer.err = r.err
		}
		r.outer.b = nil
		return false
	}
	return true
}

func (r *reader) unknownTags() []Tag {
	var tags []Tag
	for n := r.tagCount(); n > 0; n-- {
		tag, f := r.tag()
		if f.err != nil {
			break
		}
		tags = append(tags, f.unknown(tag))
	}
	return tags
}
