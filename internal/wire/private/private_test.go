package private

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	_ kmsg.Request  = (*Request)(nil)
	_ kmsg.Response = (*Response)(nil)
)

func FuzzPrivate(f *testing.F) {
	text := "no"
	f.Add((&Request{Payload: []byte("abc")}).AppendTo(nil))
	f.Add((&Response{ErrorCode: 41, Message: &text, Payload: []byte("abc")}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q Request
		if q.ReadFrom(b) == nil {
			if again := q.AppendTo(nil); !bytes.HasPrefix(b, again) {
				t.Errorf("%x became %x", b, again)
			}
		}
		var r Response
		if r.ReadFrom(b) == nil && (r.Message == nil || len(*r.Message) <= 1<<14) {
			var r2 Response
			if err := r2.ReadFrom(r.AppendTo(nil)); err != nil || r2.ErrorCode != r.ErrorCode || !bytes.Equal(r2.Payload, r.Payload) {
				t.Errorf("%+v became %+v: %v", r, r2, err)
			}
		}
	})
}
