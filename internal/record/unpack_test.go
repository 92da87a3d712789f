package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// If this fails, what clients push compressed cannot be read, or a small push can become a large one.
func TestUnpack(t *testing.T) {
	plain := bytes.Repeat([]byte("a letter, "), 10_000)
	for c := None; c <= Zstd; c++ {
		packed := plain
		if c != None {
			packed = compress(nil, c, 0, plain)
		}
		if got, err := Unpack(c, packed, len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", c, len(got), err)
		}
		if _, err := Unpack(c, packed, len(plain)-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: one byte more than allowed: %v", c, err)
		}
		if c == None {
			continue
		}
		if _, err := Unpack(c, packed[:len(packed)/2], len(plain)); err == nil {
			t.Errorf("%s: half of it was read", c)
		}
		if _, err := Unpack(c, []byte("nothing of the kind"), len(plain)); err == nil {
			t.Errorf("%s: no such stream was read", c)
		}
	}
	var wide bytes.Buffer // little inside, behind a large window
	z, err := zstd.NewWriter(&wide, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, _ = z.Write(plain)
		_ = z.Flush()
	}
	_ = z.Close()
	if _, err := Unpack(Zstd, wide.Bytes(), 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a window of 64 MiB for at most 1 MiB: %v", err)
	}
	if _, err := Unpack(Zstd, wide.Bytes(), 64<<20); err != nil {
		t.Error(err)
	}
	if _, err := Unpack(9, plain, len(plain)); err == nil {
		t.Error("an unknown codec")
	}
}
