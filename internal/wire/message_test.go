package wire

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field of a message to something, arrays to one to three elements, pointers to a value now and then.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Version" {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Slice:
		n := rng.IntN(3) + 1
		s := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			if d, ok := s.Index(i).Addr().Interface().(interface{ Default() }); ok {
				d.Default()
			}
			fill(rng, s.Index(i))
		}
		v.Set(s)
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Pointer:
		if rng.IntN(3) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		if d, ok := v.Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fill(rng, v.Elem())
	case reflect.String:
		v.SetString("abcdefgh"[:rng.IntN(9)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.IntN(100)))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(rng.IntN(100)))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	}
}

// Every version of every request that kmsg writes has exactly the shape that the table says: read whole, not one byte less.
func TestShapesFitKmsg(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	checked := 0
	for key, sh := range shapes {
		req := kmsg.RequestForKey(key)
		if req == nil {
			t.Logf("kmsg has no key %d", key)
			continue
		}
		if req.MaxVersion() < sh.versions.max {
			t.Logf("kmsg has key %d up to version %d of %d", key, req.MaxVersion(), sh.versions.max)
		}
		for v := sh.versions.min; v <= min(sh.versions.max, req.MaxVersion()); v++ {
			if got := Flexible(key, v); got != (v >= sh.flexible) {
				t.Errorf("key %d version %d: flexible is %v for kmsg", key, v, got)
			}
			for range 20 {
				req := kmsg.RequestForKey(key)
				req.SetVersion(v)
				fill(rng, reflect.ValueOf(req).Elem())
				body := req.AppendTo(nil)
				w := walker{r: NewReader(body), version: v, flexible: v >= sh.flexible}
				w.structure(&sh.body)
				if w.r.bad || len(w.r.b) != 0 {
					t.Errorf("key %d version %d: malformed %v, %d of %d bytes left over", key, v, w.r.bad, len(w.r.b), len(body))
					break
				}
				got, err := DecodeRequest(key, v, append(bytes.Clone(body), 7))
				if err != nil || !bytes.Equal(got.AppendTo(nil), body) {
					t.Errorf("key %d version %d: %v\n got %x\nwant %x", key, v, err, got.AppendTo(nil), body)
					break
				}
				if len(body) > 0 {
					if _, err := DecodeRequest(key, v, body[:rng.IntN(len(body))]); !errors.Is(err, ErrMalformed) {
						t.Errorf("key %d version %d cut short: %v", key, v, err)
					}
				}
				checked++
			}
		}
	}
	if checked < 3000 {
		t.Errorf("only %d bodies checked", checked)
	}
}

func TestDecodedRequestHoldsNothingOfTheBuffer(t *testing.T) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group = 9, "group"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte("metadata")
	req.Protocols = append(req.Protocols, p)
	body := req.AppendTo(nil)
	got, err := DecodeRequest(11, 9, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 0xdb
	}
	if g := got.(*kmsg.JoinGroupRequest); string(g.Protocols[0].Metadata) != "metadata" || g.Group != "group" {
		t.Errorf("%+v", g)
	}
}

// allocated is what fn allocates, in bytes.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHostileCountsCostNothing(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 4<<20)
	count := func(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }
	cases := []struct {
		name         string
		key, version int16
		body         []byte
	}{
		{"Metadata: as many topics as bytes", 3, 8, append(count(4<<20-100), bytes.Repeat([]byte{0xff}, 4<<20)...)},
		{"CreateTopics: more topics than bytes", 19, 4, append(count(math.MaxInt32), zeros[:100]...)},
		{"CreateTopics: as many topics as bytes", 19, 5, append([]byte{0xff, 0xff, 0xff, 0x01}, append([]byte{9, 'x'}, zeros...)...)},
		{"Heartbeat: four thousand million tagged fields", 12, 4, []byte{1, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{"Heartbeat: a tagged field longer than the body", 12, 4, []byte{1, 0, 0, 0, 0, 1, 0, 1, 5, 0xff, 0xff, 0x03}},
		{"OffsetCommit: negative count", 8, 7, []byte{0, 1, 'g', 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x80, 0, 0, 0}},
		{"OffsetFetch: null where it must not be", 9, 1, []byte{0, 1, 'g', 0xff, 0xff, 0xff, 0xff}},
		{"no such API", 200, 0, nil},
		{"API that is gone", 4, 0, nil},
		{"version too high", 3, 99, nil},
		{"negative key", -1, 0, nil},
	}
	for _, c := range cases {
		n := allocated(func() {
			if _, err := DecodeRequest(c.key, c.version, c.body); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
		if n > limit {
			t.Errorf("%s: %d bytes allocated", c.name, n)
		}
	}
	hot := []struct {
		name string
		fn   func() error
	}{
		{"Produce", func() error {
			return new(ProduceRequest).Decode(3, append([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff}, zeros...))
		}},
		{"Produce, flexible", func() error {
			return new(ProduceRequest).Decode(13, append([]byte{0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, zeros...))
		}},
		{"Fetch", func() error {
			return new(FetchRequest).Decode(4, append(make([]byte, 17), 0x7f, 0xff, 0xff, 0xff, 1, 2, 3))
		}},
	}
	for _, c := range hot {
		n := allocated(func() {
			if err := c.fn(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
		if n > 4<<20+limit+limit { // the body itself is made inside
			t.Errorf("%s: %d bytes allocated", c.name, n)
		}
	}
}

// The estimate that bounds memory is not below what kmsg's structures take.
func TestCostCoversMemory(t *testing.T) {
	var check func(key int16, path string, f *field, typ reflect.Type)
	check = func(key int16, path string, f *field, typ reflect.Type) {
		if int64(typ.Size()) > f.cost+8 {
			t.Errorf("key %d %s: cost %d, kmsg takes %d", key, path, f.cost, typ.Size())
		}
		var arrays []*field
		for i := range f.fields {
			if f.fields[i].kind == '[' {
				arrays = append(arrays, f.fields[i].elem)
			}
		}
		var types []reflect.StructField
		for i := range typ.NumField() {
			sf := typ.Field(i)
			if sf.Type.Kind() == reflect.Slice && sf.Type.Elem().Kind() != reflect.Uint8 {
				types = append(types, sf)
			}
		}
		if len(arrays) != len(types) {
			return // kmsg names some bytes differently; the round trip test holds the shape
		}
		for i, a := range arrays {
			if a.kind == '{' && types[i].Type.Elem().Kind() == reflect.Struct {
				check(key, path+"."+types[i].Name, a, types[i].Type.Elem())
			}
		}
	}
	for key, sh := range shapes {
		if req := kmsg.RequestForKey(key); req != nil {
			body := sh.body
			body.cost = math.MaxInt32
			check(key, "", &body, reflect.TypeOf(req).Elem())
		}
	}
}

func TestEncodeResponse(t *testing.T) {
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = 12
	for range 3 {
		want := resp.AppendTo([]byte{0, 0, 0, 9, 0})
		b := EncodeResponse(9, resp)
		r := NewReader(b.Bytes())
		if n := int(r.Int32()); n != len(b.Bytes())-4 || !bytes.Equal(r.Rest(), want) {
			t.Fatalf("frame of %d bytes says %d", len(b.Bytes()), n)
		}
		b.Release()
		for range 2000 { // the next does not fit the first buffer
			resp.Topics = append(resp.Topics, kmsg.NewMetadataResponseTopic())
		}
	}
	versions := kmsg.NewPtrApiVersionsResponse()
	versions.Version = 3
	b := EncodeResponse(9, versions)
	defer b.Release()
	if want := versions.AppendTo([]byte{0, 0, 0, 9}); !bytes.Equal(b.Bytes()[4:], want) {
		t.Errorf("ApiVersions: %x, want %x", b.Bytes()[4:], want)
	}
}
