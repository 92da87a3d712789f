package wire

import (
	"bytes"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// kmsg trusts what it reads: an array's count is bounded by the remaining bytes only, though an element may take a hundred times its
// bytes in memory, and a count of tagged fields not at all. So a body is first walked by its shape, which costs little and
// no memory; kmsg then sees only bodies whose counts are true and whose memory is bounded.

// maxDecodedBytes bounds the memory that decoding one request may take, beyond the bytes of its strings: lists of half a million
// elements and more. What handles them takes a multiple of it.
const maxDecodedBytes = 32 << 20

// unknownTagBytes is about what kmsg keeps for a tagged field that it does not know.
const unknownTagBytes = 128

// versionRange is from min to max; max is math.MaxInt16 for "and later".
type versionRange struct{ min, max int16 }

func (v versionRange) has(version int16) bool { return version >= v.min && version <= v.max }

// field is one field of a body, or the element of an array.
type field struct {
	kind     byte // as in requestShapes; '[' and '{' for arrays and structures
	versions versionRange
	nullable versionRange
	tag      int32   // -1 for none
	elem     *field  // of an array
	fields   []field // of a structure
	cost     int64   // what it takes in memory, about
}

// shapeOf is the shape of one API's requests.
type shapeOf struct {
	versions versionRange
	flexible int16
	body     field
	bytes    bool // there are fields of bytes, which kmsg would leave in the request's buffer
}

var shapes = parseShapes(requestShapes)

// DecodeRequest decodes the body of a request whose API has no codec of its own here. Bytes after it are accepted. Errors
// wrap ErrMalformed; there is no way to make it panic or allocate much more than the body says. The request holds nothing
// of body.
func DecodeRequest(key, version int16, body []byte) (kmsg.Request, error) {
	shape := shapes[key]
	req := kmsg.RequestForKey(key)
	if shape == nil || req == nil {
		return nil, fmt.Errorf("%w: no API has key %d", ErrMalformed, key)
	}
	if !shape.versions.has(version) || version > req.MaxVersion() {
		return nil, fmt.Errorf("%w: API key %d has no version %d", ErrMalformed, key, version)
	}
	w := walker{r: NewReader(body), version: version, flexible: version >= shape.flexible}
	w.structure(&shape.body)
	if w.r.bad {
		return nil, fmt.Errorf("%w: API key %d version %d, %d bytes", ErrMalformed, key, version, len(body))
	}
	body = body[:len(body)-len(w.r.b)]
	if shape.bytes {
		body = bytes.Clone(body)
	}
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%w: API key %d version %d: %w", ErrMalformed, key, version, err)
	}
	return req, nil
}

// walker walks a body by its shape.
type walker struct {
	r        Reader
	version  int16
	flexible bool
	cost     int64
}

func (w *walker) charge(n int64) {
	w.cost += n
	if w.cost > maxDecodedBytes {
		w.r.fail()
	}
}

func (w *walker) structure(s *field) {
	for i := range s.fields {
		f := &s.fields[i]
		if f.tag >= 0 || !f.versions.has(w.version) {
			continue
		}
		w.value(f)
		if w.r.bad {
			return
		}
	}
	if w.flexible {
		w.tags(s)
	}
}

func (w *walker) tags(s *field) {
	n := w.r.Uvarint()
	if int64(n)*2 > int64(len(w.r.b)) {
		w.r.fail()
		return
	}
	for range n {
		tag := w.r.Uvarint()
		span := w.r.Span(int(w.r.Uvarint()))
		if w.r.bad {
			return
		}
		f := s.tagged(tag)
		if f == nil {
			w.charge(unknownTagBytes)
			continue
		}
		rest := w.r
		w.r = NewReader(span)
		w.value(f)
		if w.r.bad {
			return
		}
		w.r = rest
	}
}

// tagged finds a tagged field. As kmsg does, it knows the tag in versions from before the field, too.
func (s *field) tagged(tag uint32) *field {
	for i := range s.fields {
		if f := &s.fields[i]; f.tag >= 0 && uint32(f.tag) == tag {
			return f
		}
	}
	return nil
}

func (w *walker) value(f *field) {
	null := f.nullable.has(w.version)
	switch f.kind {
	case 'b':
		w.r.Span(1)
	case 'h':
		w.r.Span(2)
	case 'i':
		w.r.Span(4)
	case 'l':
		w.r.Span(8)
	case 'u':
		w.r.Span(16)
	case 's':
		w.span(w.r.length(w.flexible), null)
	case 'y', 'r':
		w.span(w.r.size(w.flexible), null)
	case '[':
		w.array(f, null)
	case '{':
		if null {
			if w.r.Int8() < 0 {
				return
			}
			w.charge(f.cost)
		}
		w.structure(f)
	}
}

func (w *walker) span(n int, null bool) {
	if n == -1 && null {
		return
	}
	w.r.Span(n)
}

func (w *walker) array(f *field, null bool) {
	n := w.r.size(w.flexible)
	if n == -1 && null {
		return
	}
	if n < 0 || n > len(w.r.b) { // every element takes a byte at least
		w.r.fail()
		return
	}
	w.charge(int64(n) * f.elem.cost)
	for i := 0; i < n && !w.r.bad; i++ {
		w.value(f.elem)
	}
}

// EncodeResponse gives the whole frame of a response, size prefix and header included, in a pooled buffer.
func EncodeResponse(correlationID int32, resp kmsg.Response) *Buffer {
	const usual = 4 << 10
	b := GetBuffer(usual)
	dst := BeginFrame(b.Bytes()[:0], resp.Key(), resp.GetVersion(), correlationID)
	dst = resp.AppendTo(dst)
	EndFrame(dst, 0, 0)
	return b.Adopt(dst)
}

// Adopt makes dst, to which the buffer's only owner has appended from b.Bytes()[:0] on, the buffer's content. It gives the
// buffer to go on with: another one where dst has outgrown the memory of the first, which is released.
func (b *Buffer) Adopt(dst []byte) *Buffer {
	if cap(dst) > 0 && cap(b.b) > 0 && &dst[:1][0] == &b.b[:1][0] {
		b.b = dst
		return b
	}
	other := &Buffer{b: dst}
	other.refs.Store(1)
	b.Release()
	return other
}

// shapeParser reads requestShapes.
type shapeParser struct {
	s     string
	bytes bool
}

func parseShapes(table string) map[int16]*shapeOf {
	out := map[int16]*shapeOf{}
	p := shapeParser{s: table}
	for p.skip(" \n"); p.s != ""; p.skip(" \n") {
		p.bytes = false
		key := p.number()
		p.skip(" ")
		sh := &shapeOf{versions: p.versions(), flexible: math.MaxInt16}
		p.skip(" ")
		if p.peek() == '-' {
			p.s = p.s[1:]
		} else {
			sh.flexible = p.number()
		}
		sh.body = field{kind: '{', tag: -1, fields: p.fields('\n')}
		sh.bytes = p.bytes
		out[key] = sh
	}
	return out
}

func (p *shapeParser) peek() byte {
	if p.s == "" {
		return '\n'
	}
	return p.s[0]
}

func (p *shapeParser) skip(set string) {
	for p.s != "" && bytes.IndexByte([]byte(set), p.s[0]) >= 0 {
		p.s = p.s[1:]
	}
}

func (p *shapeParser) number() int16 {
	n := int16(0)
	for p.s != "" && p.s[0] >= '0' && p.s[0] <= '9' {
		n = n*10 + int16(p.s[0]-'0')
		p.s = p.s[1:]
	}
	return n
}

func (p *shapeParser) versions() versionRange {
	v := versionRange{min: p.number(), max: math.MaxInt16}
	if p.peek() == '+' {
		p.s = p.s[1:]
		return v
	}
	p.s = p.s[1:] // -
	v.max = p.number()
	return v
}

func (p *shapeParser) fields(end byte) []field {
	var out []field
	for p.skip(" "); p.peek() != end; p.skip(" ") {
		f := p.typ()
		f.versions = p.versions()
		if p.peek() == 'n' {
			p.s = p.s[1:]
			f.nullable = p.versions()
		}
		if p.peek() == 't' {
			p.s = p.s[1:]
			f.tag = int32(p.number())
		}
		out = append(out, f)
	}
	return out
}

func (p *shapeParser) typ() field {
	kind := p.peek()
	p.s = p.s[1:]
	f := field{kind: kind, tag: -1, nullable: versionRange{min: 1, max: 0}}
	switch kind {
	case '[':
		elem := p.typ()
		f.elem = &elem
		p.s = p.s[1:] // ]
		f.cost = 24
	case '{':
		f.fields = p.fields('}')
		p.s = p.s[1:]
		f.cost = 8 // unknown tags
		for i := range f.fields {
			f.cost += f.fields[i].cost
		}
	case 's', 'u':
		f.cost = 24
	case 'y', 'r':
		p.bytes = true
		f.cost = 24
	default:
		f.cost = 8
	}
	return f
}
