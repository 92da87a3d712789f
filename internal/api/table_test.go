package api

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated pages under docs/ anew")

// Every API of the table has a file named after its key, and every such file a row.
func TestTableAndFiles(t *testing.T) {
	files, err := filepath.Glob("[0-9][0-9]_*.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[int]string{}
	last := int16(-1)
	for _, w := range table {
		if w.Key <= last {
			t.Errorf("%s stands out of order", w.Name)
		}
		last = w.Key
		rows[int(w.Key)] = w.Name
		if w.Min > w.Max || w.handle == nil || w.Name == "" {
			t.Errorf("row %d is not whole", w.Key)
		}
	}
	seen := map[int]bool{}
	number := regexp.MustCompile(`^(\d\d)_`)
	for _, f := range files {
		key, _ := strconv.Atoi(number.FindStringSubmatch(f)[1])
		if rows[key] == "" {
			t.Errorf("%s has no row in the table", f)
		}
		seen[key] = true
	}
	for key, name := range rows {
		if !seen[key] {
			t.Errorf("%s has no file %02d_*.go", name, key)
		}
	}
}

// docs/apis.md is the table, in words.
func TestDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("# APIs\n\nWritten from the table in internal/api; `make docs` writes it anew. Versions are those announced; Produce is announced from 0 (KIP-896).\nMemory is what the request gate charges while a request is handled: so many times its frame, plus a fixed part.\n\n")
	b.WriteString("| key | API | versions | answered | a client must be allowed to | memory |\n|-|-|-|-|-|-|\n")
	for _, w := range table {
		stage, access := "at once", "-"
		if w.Stage == Parked {
			stage = "when it can be"
		}
		if w.Access.Operation != "" {
			access = w.Access.Operation + " on " + w.Access.Resource
		}
		fmt.Fprintf(&b, "| %d | %s | %d-%d | %s | %s | %dx + %d B |\n", w.Key, w.Name, w.Min, w.Max, stage, access, w.Memory.Times, w.Memory.Bytes)
	}
	const page = "../../docs/apis.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the table says (%v); run `make docs`", page, err)
	}
}

// The partition that owns a group is the one Kafka's clients and tools compute: Java's string hash.
func TestPartitionFor(t *testing.T) {
	for id, want := range map[string]int32{"": 0, "a": 97 % 50, "my-group": 36, "grüße": 23} {
		if got := partitionFor(id, 50); got != want {
			t.Errorf("partitionFor(%q, 50) = %d, want %d", id, got, want)
		}
	}
	if got := partitionFor("polygenelubricants", 50); got != 0 { // its hash is the smallest int, whose absolute value is none
		t.Errorf("the id whose hash has no absolute value belongs to partition 0, not %d", got)
	}
}
