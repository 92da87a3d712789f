package network

import (
	"encoding/binary"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzFrames sends any bytes in any pieces to a live server. It must not panic, must answer what is well formed, and must
// have forgotten everything when the client has gone.
func FuzzFrames(f *testing.F) {
	f.Add(frame(1, []byte("hello")), uint8(3))
	f.Add(append(frame(1, nil), frameOf(3, 9, 2, []byte{0})...), uint8(0))
	f.Add(frameOf(3, 9, 2, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}), uint8(1))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(5))
	f.Add([]byte{0x16, 3, 1, 0, 5}, uint8(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(2))
	f.Add(frame(1, make([]byte, 100_000)), uint8(200))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		synctest.Test(t, func(t *testing.T) {
			dispatched := 0
			r := start(t, false, Options{MemoryBytes: 100_000, Dispatch: func(q *Request) {
				dispatched++
				echo(q)
			}})
			c := r.dial()
			done := make(chan int64)
			go func() {
				n, _ := io.Copy(io.Discard, c)
				done <- n
			}()
			pieces := 0
			for rest := data; len(rest) > 0; pieces++ {
				k := min(len(rest), 1+int(step)*int(step))
				if pieces > 200 {
					k = len(rest)
				}
				if _, err := c.Write(rest[:k]); err != nil {
					break
				}
				rest = rest[k:]
				if step%2 == 0 {
					synctest.Wait()
				}
			}
			<-time.After(time.Hour) // hanging connections are closed by then
			n := <-done
			synctest.Wait()
			if dispatched > 0 && n < int64(8*dispatched) {
				t.Errorf("%d requests, %d bytes of responses", dispatched, n)
			}
			if len(data) >= 4 && dispatched == 0 && int32(binary.BigEndian.Uint32(data)) == int32(len(data)-4) && len(data) >= 18 && data[4] == 0 && data[5] == 3 && data[6] == 0 && data[7] < 9 && data[12] == 255 && data[13] == 255 {
				t.Error("a well-formed request was not dispatched")
			}
			if r.s.gate.used.Load() != 0 || r.s.m.inFlight.Load() != 0 || r.s.listeners[0].open.Load() != 0 {
				t.Errorf("left: %d bytes, %d requests, %d connections", r.s.gate.used.Load(), r.s.m.inFlight.Load(), r.s.listeners[0].open.Load())
			}
			r.stop()
		})
	})
}
