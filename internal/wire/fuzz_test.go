package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func seedBodies(f *testing.F, key int16) {
	rng := rand.New(rand.NewPCG(3, 4))
	for v := shapes[key].versions.min; v <= shapes[key].versions.max; v++ {
		req := kmsg.RequestForKey(key)
		if req == nil || v > req.MaxVersion() {
			return
		}
		req.SetVersion(v)
		fill(rng, reflect.ValueOf(req).Elem())
		f.Add(v, req.AppendTo(nil))
	}
}

// What our decoder accepts, kmsg decodes to the same; nothing that is malformed is left half decoded.
func FuzzProduceRequest(f *testing.F) {
	seedBodies(f, 0)
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var got ProduceRequest
		if err := got.Decode(version, body); err != nil {
			if !errors.Is(err, ErrMalformed) || len(got.Topics) != 0 {
				t.Fatalf("%v, %d topics", err, len(got.Topics))
			}
			return
		}
		want := kmsg.NewPtrProduceRequest()
		want.Version = version
		if err := want.ReadFrom(body); err != nil {
			t.Fatalf("kmsg: %v", err)
		}
		if err := produceEqual(&got, want); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzFetchRequest(f *testing.F) {
	seedBodies(f, 1)
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var got FetchRequest
		if err := got.Decode(version, body); err != nil {
			if !errors.Is(err, ErrMalformed) || len(got.Topics)+len(got.Forgotten) != 0 {
				t.Fatalf("%v, %d topics", err, len(got.Topics))
			}
			return
		}
		want := kmsg.NewPtrFetchRequest()
		want.Version = version
		if err := want.ReadFrom(body); err != nil {
			if want.IsFlexible() && version < FetchMaxVersion {
				return // kmsg reads tags of later versions, too, and may stumble over them
			}
			t.Fatalf("kmsg: %v", err)
		}
		if err := fetchEqual(&got, want); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRequestHeader(f *testing.F) {
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		if req := kmsg.RequestForKey(key); req != nil {
			req.SetVersion(req.MaxVersion())
			f.Add(kmsg.NewRequestFormatter(kmsg.FormatterClientID("me")).AppendRequest(nil, req, 42)[4:])
		}
	}
	var used HeaderParser
	f.Fuzz(func(t *testing.T, b []byte) {
		h, body, err := ParseRequestHeader(b)
		h2, body2, err2 := used.Parse(b)
		if !reflect.DeepEqual(h, h2) || !bytes.Equal(body, body2) || (err == nil) != (err2 == nil) {
			t.Fatalf("a used parser gives %+v %v, a new one %+v %v", h2, err2, h, err)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.HasSuffix(b, body) {
			t.Fatal("the body is not the end of the request")
		}
	})
}

// For every key and version: no panic, no more memory than the bound, and what is accepted reads the same again once it
// is written.
func FuzzKmsgDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for key, sh := range shapes {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := sh.versions.min; v <= min(sh.versions.max, req.MaxVersion()); v++ {
			req := kmsg.RequestForKey(key)
			req.SetVersion(v)
			fill(rng, reflect.ValueOf(req).Elem())
			f.Add(key, v, req.AppendTo(nil))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		req, err := DecodeRequest(key, version, body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || req != nil {
				t.Fatal(err)
			}
			return
		}
		again := req.AppendTo(nil)
		req2, err := DecodeRequest(key, version, again)
		if err != nil || !bytes.Equal(req2.AppendTo(nil), again) {
			t.Fatalf("%v\n%x\n%x", err, body, again)
		}
	})
}
