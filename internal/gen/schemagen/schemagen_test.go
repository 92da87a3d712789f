package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The committed code is what the definitions give, and no generated file is left over from an earlier one.
func TestGeneratedIsCurrent(t *testing.T) {
	dir := filepath.Join("..", "..", "wire", "schema")
	files, err := generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current (%v): run go generate ./internal/wire/schema", name, err)
		}
	}
	have, err := filepath.Glob(filepath.Join(dir, "*_gen.go"))
	if err != nil || len(have) != len(files) {
		t.Errorf("%d generated files, %d wanted (%v)", len(have), len(files), err)
	}
}

func TestBadDefinitions(t *testing.T) {
	for text, want := range map[string]string{
		"  A int32":                          "before any message",
		"data M":                             "kind, name and versions",
		"data M versions=x":                  "versions",
		"data M versions=3-1":                "above",
		"data M versions=0\n  A":             "name and a type",
		"data M versions=0\n  A int99":       "unknown type",
		"data M versions=0\n  A int32 1+":    "above the last",
		"data M versions=0-1\n  A int32 0-2": "outside",
		"data M versions=0\n  A int32 tag=0": "below the flexible version",
		"data M versions=0\n  A int32 null":  "cannot be null",
		"data M versions=0 flexible=0+\n  A S tag=0\n  struct S\n    B int8": "must be null",
		"data M versions=0\n  A string null default=empty":                   "empty by default",
	} {
		if _, err := parse("x", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
