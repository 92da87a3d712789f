package load

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"
)

// A wrong bucket would make every latency figure of the comparison wrong.
func TestHistogramQuantiles(t *testing.T) {
	var h Histogram
	for us := 1; us <= 100_000; us++ {
		h.Add(time.Duration(us) * time.Microsecond)
	}
	for _, c := range []struct{ q, ms float64 }{{0.5, 50}, {0.99, 99}, {0.999, 99.9}} {
		if got := h.Quantile(c.q); got < c.ms*0.96 || got > c.ms*1.001 {
			t.Errorf("quantile %v is %v ms, want about %v", c.q, got, c.ms)
		}
	}
	for i := 1; i < 40*32; i++ {
		if bucket(lowest(i)) != i && i >= 64 || lowest(i) < lowest(i-1) {
			t.Fatalf("bucket %d begins at %d, which is counted in %d", i, lowest(i), bucket(lowest(i)))
		}
	}
}

// A batch with a wrong checksum or count would be refused, and the benchmark would measure refusals.
func TestBatchIsWellFormed(t *testing.T) {
	for _, codec := range []string{"none", "lz4", "zstd"} {
		b, n, err := Batch(1024, 16<<10, codec, 1)
		if err != nil || n != 15 {
			t.Fatalf("%s: %d records, %v", codec, n, err)
		}
		if got := int(binary.BigEndian.Uint32(b[8:])) + 12; got != len(b) || len(b) > 16<<10 {
			t.Fatalf("%s: length field says %d, batch has %d", codec, got, len(b))
		}
		if binary.BigEndian.Uint32(b[17:]) != crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)) {
			t.Fatalf("%s: checksum", codec)
		}
	}
}
