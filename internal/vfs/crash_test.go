package vfs

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// outcomes crashes m a few hundred times and gives what f saw, each once.
func outcomes(m *Mem, o CrashOptions, f func(c *Mem) string) []string {
	seen := map[string]bool{}
	for seed := range int64(400) {
		seen[f(m.CrashClone(rand.New(rand.NewSource(seed)), o))] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

var half = CrashOptions{Data: 0.5, Names: 0.5}

func fileAs(t *testing.T, name string) func(*Mem) string {
	return func(c *Mem) string {
		s, ok := content(t, c, name)
		if !ok {
			return "none"
		}
		return fmt.Sprintf("%d:%s", len(s), squeeze(s))
	}
}

// squeeze writes each sector as its first byte.
func squeeze(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += sectorBytes {
		if s[i] == 0 {
			b.WriteByte('.')
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func sectors(s string) string {
	var b strings.Builder
	for _, c := range s {
		b.WriteString(strings.Repeat(string(c), sectorBytes))
	}
	return b.String()
}

func want(t *testing.T, got []string, all ...string) {
	t.Helper()
	slices.Sort(all)
	if !slices.Equal(got, all) {
		t.Fatalf("a crash can leave\n%q, not\n%q", got, all)
	}
}

func TestCrashSyncedSurvives(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	writeAt(t, f, 0, sectors("ab"))
	check(t, f.Sync())
	want(t, outcomes(m, half, fileAs(t, "f")), "1024:ab", "none") // Sync does not make the name durable
	check(t, m.SyncDir("/"))
	want(t, outcomes(m, CrashOptions{}, fileAs(t, "f")), "1024:ab")
}

func TestCrashTearsAndReorders(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	check(t, m.SyncDir("/"))
	writeAt(t, f, 0, sectors("abc"))
	check(t, f.Sync())
	writeAt(t, f, 0, sectors("x"))
	writeAt(t, f, 2*sectorBytes, sectors("y"))
	want(t, outcomes(m, half, fileAs(t, "f")), "1536:abc", "1536:xbc", "1536:aby", "1536:xby")
	want(t, outcomes(m, CrashOptions{}, fileAs(t, "f")), "1536:abc")
	want(t, outcomes(m, CrashOptions{Data: 1}, fileAs(t, "f")), "1536:xby")
}

func TestCrashSize(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	check(t, m.SyncDir("/"))
	writeAt(t, f, 0, sectors("abcd"))
	check(t, f.Sync())
	check(t, f.Truncate(sectorBytes))
	check(t, f.Truncate(3*sectorBytes))
	got := outcomes(m, half, fileAs(t, "f"))
	for _, s := range []string{"512:a", "1536:a..", "1536:abc", "2048:abcd"} {
		if !slices.Contains(got, s) {
			t.Errorf("%q is missing of %q", s, got)
		}
	}
	want(t, outcomes(m, CrashOptions{Data: 1}, fileAs(t, "f")), "1536:a..")
	want(t, outcomes(m, CrashOptions{}, fileAs(t, "f")), "2048:abcd")

	g := create(t, m, "g")
	check(t, m.SyncDir("/"))
	writeAt(t, g, 0, sectors("abcd"))
	cut := 0
	for _, s := range outcomes(m, half, fileAs(t, "g")) {
		if !strings.HasPrefix(s, "0:") && !strings.HasPrefix(s, "2048:") {
			cut++
		}
	}
	if cut == 0 {
		t.Error("a growing file is never cut in the middle of a write")
	}
}

func TestCrashDsync(t *testing.T) {
	m := NewMem()
	f, err := m.OpenFile("f", os.O_RDWR|os.O_CREATE|unix.O_DSYNC|unix.O_DIRECT, 0o600)
	check(t, err)
	check(t, m.SyncDir("/"))
	plain := create(t, m, "f")
	writeAt(t, plain, 0, sectors("abc"))
	var torn []string
	m.SetSyncHook(func(string) { torn = outcomes(m, CrashOptions{Data: 0.5}, fileAs(t, "f")) })
	writeAt(t, f, sectorBytes, sectors("xy"))
	m.SetSyncHook(nil)
	if len(torn) < 4 {
		t.Fatalf("a crash while the write runs leaves only %q", torn)
	}
	want(t, outcomes(m, half, fileAs(t, "f")), "1536:axy", "1536:.xy")
}

func TestCrashNames(t *testing.T) {
	list := func(c *Mem) string {
		var out []string
		for _, d := range []string{"/", "/d"} {
			entries, _ := c.ReadDir(d)
			for _, e := range entries {
				s, _ := "", false
				if !e.IsDir() {
					s, _ = content(t, c, d+"/"+e.Name())
				}
				out = append(out, e.Name()+s)
			}
		}
		return strings.Join(out, " ")
	}
	fresh := func() *Mem {
		m := NewMem()
		for _, name := range []string{"a", "b"} {
			f := create(t, m, name)
			writeAt(t, f, 0, strings.ToUpper(name))
			check(t, f.Sync())
		}
		check(t, m.MkdirAll("d", 0o755))
		check(t, m.SyncDir("/"))
		return m
	}
	m := fresh()
	check(t, m.Remove("a"))
	check(t, m.Rename("b", "d/b"))
	want(t, outcomes(m, half, list), "aA bB d", "bB d", "aA d bB", "d bB")
	check(t, m.SyncDir("d")) // takes the other half of the rename with it
	want(t, outcomes(m, half, list), "aA d bB", "d bB")

	m = fresh()
	check(t, m.Rename("a", "b")) // replaces
	want(t, outcomes(m, half, list), "aA bB d", "bA d")
	f := create(t, m, "a")
	writeAt(t, f, 0, "N")
	check(t, f.Sync())
	want(t, outcomes(m, half, list), "aA bB d", "bA d", "aN bA d") // the new a cannot survive without the rename

	m = fresh()
	check(t, m.RemoveAll("d"))
	check(t, m.MkdirAll("d", 0o755))
	create(t, m, "d/x")
	check(t, m.SyncDir("d"))
	want(t, outcomes(m, CrashOptions{}, list), "aA bB d") // the synced entry hangs on a directory that is not durable
	check(t, m.SyncDir("/"))
	want(t, outcomes(m, CrashOptions{}, list), "aA bB d x")
}

func TestCrashCloneStandsAlone(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	check(t, m.SyncDir("/"))
	writeAt(t, f, 0, "before")
	check(t, f.Sync())
	l, err := m.Lock("lock")
	check(t, err)
	c := m.CrashClone(rand.New(rand.NewSource(1)), CrashOptions{Data: 1, Names: 1})
	writeAt(t, f, 0, "after ")
	check(t, m.Remove("f"))
	if s, _ := content(t, c, "f"); s != "before" {
		t.Fatalf("%q", s)
	}
	if _, err := c.Lock("lock"); err != nil {
		t.Fatalf("a crash unlocks: %v", err)
	}
	check(t, l.Close())
	if names, err := NewVolatileMem().CrashClone(rand.New(rand.NewSource(1)), half).ReadDir("/"); err != nil || len(names) != 0 {
		t.Fatal(names, err)
	}
}

// A model of one file by sectors: after any operations a crash leaves each sector at its durable or its last content,
// and what was synced exactly.
func TestCrashModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 300 // sectors, over two pages
		m := NewMem()
		f, err := m.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = m.SyncDir("/")
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var durable, current [n]byte
		var size, durableSize int
		sizes := map[int]bool{0: true}
		write := func(t *rapid.T, f File) (from, to int) {
			from = rapid.IntRange(0, n-1).Draw(t, "from")
			to = rapid.IntRange(from, n-1).Draw(t, "to") + 1
			c := byte(rapid.IntRange('a', 'z').Draw(t, "c"))
			if _, err := f.WriteAt([]byte(sectors(strings.Repeat(string(c), to-from))), int64(from*sectorBytes)); err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				current[i] = c
			}
			size = max(size, to)
			sizes[size] = true
			return from, to
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) { write(t, f) },
			"dsync": func(t *rapid.T) {
				from, to := write(t, d)
				copy(durable[from:to], current[from:to])
				durableSize, sizes = size, map[int]bool{size: true}
			},
			"truncate": func(t *rapid.T) {
				size = rapid.IntRange(0, n).Draw(t, "size")
				if err := f.Truncate(int64(size * sectorBytes)); err != nil {
					t.Fatal(err)
				}
				clear(current[size:])
				sizes[size] = true
			},
			"sync": func(t *rapid.T) {
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				durable, durableSize, sizes = current, size, map[int]bool{size: true}
			},
			"crash": func(t *rapid.T) {
				o := CrashOptions{Data: rapid.SampledFrom([]float64{0, 0.1, 0.5, 0.9, 1}).Draw(t, "p"), Uneven: rapid.Bool().Draw(t, "uneven")}
				c := m.CrashClone(rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))), o)
				g, err := c.OpenFile("f", os.O_RDONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				bytes, _ := g.Size()
				if bytes%sectorBytes == 0 && !sizes[int(bytes/sectorBytes)] && int(bytes/sectorBytes) > max(size, durableSize) || bytes%sectorBytes != 0 && bytes >= int64(size*sectorBytes) {
					t.Fatalf("the size is %d bytes, was durable %d and later %v sectors", bytes, durableSize, sizes)
				}
				if o == (CrashOptions{}) && bytes != int64(durableSize*sectorBytes) || o == (CrashOptions{Data: 1}) && bytes != int64(size*sectorBytes) {
					t.Fatalf("the size is %d bytes, was durable %d and later %v sectors, with p %v", bytes, durableSize, sizes, o.Data)
				}
				b := make([]byte, n*sectorBytes)
				_, _ = g.ReadAt(b, 0)
				for i := range n {
					s := b[i*sectorBytes : (i+1)*sectorBytes]
					whole := int64((i+1)*sectorBytes) <= bytes
					for k := range s {
						if whole && s[k] != s[0] {
							t.Fatalf("sector %d is torn", i)
						}
					}
					if whole && s[0] != durable[i] && s[0] != current[i] && (s[0] != 0 || i < min(size, durableSize)) {
						t.Fatalf("sector %d is %q, was durable %q and then %q", i, s[0], durable[i], current[i])
					}
					if whole && o == (CrashOptions{Data: 1}) && s[0] != current[i] || whole && o == (CrashOptions{}) && s[0] != durable[i] {
						t.Fatalf("sector %d is %q, was durable %q and then %q, with p %v", i, s[0], durable[i], current[i], o.Data)
					}
				}
			},
		})
	})
}
