package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

func main() {
	dir := flag.String("dir", ".", "the schema package's directory")
	flag.Parse()
	files, err := generate(*dir)
	if err == nil {
		for name, src := range files {
			if err = os.WriteFile(filepath.Join(*dir, name), src, 0o644); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

// generate gives the content of every generated file of the schema package in dir, by file name.
func generate(dir string) (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "definitions", "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no definitions below %s", dir)
	}
	sort.Strings(paths)
	out := map[string][]byte{}
	var all []*definitions
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		d, err := parse(strings.TrimSuffix(filepath.Base(p), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
		if out[d.name+"_gen.go"], err = emit(d); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	out["registry_gen.go"], err = emitRegistry(all)
	return out, err
}
