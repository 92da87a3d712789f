package replicas

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func batch(offset int64, body string) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

func lay(t *testing.T, segments ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "t-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, s := range segments {
		if err := os.WriteFile(filepath.Join(dir, "t-0", string(rune('0'+i))+".log"), s, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func join(b ...[]byte) (out []byte) {
	for _, x := range b {
		out = append(out, x...)
	}
	return out
}

func TestCompare(t *testing.T) {
	a, b, c := batch(0, "one"), batch(3, "two"), batch(7, "three")
	other := batch(3, "tvo")
	whole := lay(t, join(a, b, c))
	for name, x := range map[string]struct {
		dir string
		at  int64
	}{
		"the same":                         {lay(t, join(a, b, c)), -1},
		"in other segments, with reserve":  {lay(t, join(a, make([]byte, 100)), join(b, c)), -1},
		"a byte differs":                   {lay(t, join(a, other, c)), 3},
		"shorter":                          {lay(t, join(a, b)), 7},
		"absent":                           {t.TempDir(), 0},
		"longer":                           {lay(t, join(a, b, c, batch(9, "x"))), 9},
		"a part of a batch at the end":     {lay(t, join(a, b, c[:14])), 3},
		"a batch is missing in the middle": {lay(t, join(a, c)), 3},
	} {
		t.Run(name, func(t *testing.T) {
			at, note, err := Compare([]string{whole, x.dir}, "t-0")
			if err != nil || at != x.at {
				t.Fatalf("offset %d (%s), %v; want %d", at, note, err, x.at)
			}
		})
	}
}
