package abuse

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every list of every API in turn with very many elements, once all the same and once all different: whatever the broker answers,
// it takes a bounded multiple of the request's size in memory, and others are served meanwhile.
func TestHugeLists(t *testing.T) {
	n := 60_000
	if v, err := strconv.Atoi(os.Getenv("OTTLA_ABUSE_ELEMENTS")); err == nil {
		n = v
	}
	b, logText := start(t, nil)
	serves(t, b)
	var peak int64
	for _, api := range versions(t, b) {
		req := kmsg.RequestForKey(api.ApiKey)
		if req == nil {
			continue
		}
		for list := 0; ; list++ {
			found := false
			for variant := range 8 {
				distinct, bare := variant&1 != 0, variant&2 != 0
				req := kmsg.RequestForKey(api.ApiKey)
				if req.SetVersion(min(api.MaxVersion, req.MaxVersion())); variant&4 != 0 {
					req.SetVersion(api.MinVersion)
				}
				f := huge{n: n, at: list, distinct: distinct, bare: bare}
				f.fill(reflect.ValueOf(req).Elem())
				if !f.done {
					continue
				}
				found = true
				frame := request(req)
				if len(frame) > 100<<20 {
					continue
				}
				c := dial(t, b)
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = c.Write(frame) })
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
				begun := time.Now()
				var first [1]byte
				_, err := c.Read(first[:])
				took := time.Since(begun)
				begun = time.Now()
				serves(t, b)
				c.Close()
				wg.Wait()
				u, _ := b.Usage()
				if took > time.Second || u.PeakBytes > peak+50<<20 || time.Since(begun) > time.Second {
					t.Logf("%s version %d list %d (%s), distinct %v, bare %v, %d bytes: answer or end after %v (%v), others after %v, peak %d MiB", kmsg.NameForKey(api.ApiKey), req.GetVersion(), list, f.name, distinct, bare, len(frame),
						took.Round(time.Millisecond), err, time.Since(begun).Round(time.Millisecond), u.PeakBytes>>20)
				}
				if took > 15*time.Second && api.ApiKey != int16(kmsg.JoinGroup) && api.ApiKey != int16(kmsg.Fetch) { // those wait for others
					t.Errorf("%s has no answer after %v", kmsg.NameForKey(api.ApiKey), took)
				}
				peak = max(peak, u.PeakBytes)
			}
			if !found {
				break
			}
		}
	}
	memory(t, b, 1500<<20)
	if text := logText(); strings.Count(text, "\n") > 3000 || len(text) > 2<<20 {
		t.Errorf("the log has %d lines and %d bytes; it ends in\n%s", strings.Count(text, "\n"), len(text), last(text, 2000))
	}
}

// huge fills a request as fill does, but the list with number at gets n elements.
type huge struct {
	n, at, seen int
	distinct    bool
	bare        bool // what is below the list is null
	done        bool
	name        string
	count       int
}

func (h *huge) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		h.fill(v.Elem())
	case reflect.Struct:
		if d := v.Addr().MethodByName("Default"); d.IsValid() {
			d.Call(nil)
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if f := v.Field(i); f.CanSet() && name != "Version" && name != "UnknownTags" {
				if f.Kind() == reflect.Slice && f.Type().Elem().Kind() != reflect.Uint8 && h.seen == h.at {
					h.name = name
				}
				h.fill(f)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("b"))
			return
		}
		n := 1
		if h.done && h.bare {
			h.seen++
			return
		}
		if !h.done && h.seen == h.at {
			n, h.done = h.n, true
		}
		h.seen++
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			h.fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("honest")
		if h.distinct {
			h.count++
			v.SetString(fmt.Sprintf("d%07d", h.count))
		}
	case reflect.Array: // ids
		if h.distinct && v.Len() == 16 {
			h.count++
			for i := range 8 {
				v.Index(i).SetUint(uint64(byte(h.count >> (8 * i))))
			}
		}
	case reflect.Int8, reflect.Int16:
		if v.IsZero() {
			v.SetInt(2)
		}
	case reflect.Int32, reflect.Int64:
		if h.distinct {
			h.count++
			v.SetInt(int64(h.count))
		} else if v.IsZero() {
			v.SetInt(1)
		}
	}
}
