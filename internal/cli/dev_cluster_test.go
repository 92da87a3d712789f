package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevNodesKeepTheirAddresses(t *testing.T) {
	dir := t.TempDir()
	first, err := devNodes(dir, "127.0.0.1", 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, n := range first {
		seen[n.Client], seen[n.Cluster] = true, true
	}
	if len(seen) != 6 {
		t.Fatalf("addresses %v", first)
	}
	again, err := devNodes(dir, "127.0.0.1", 0, 4)
	if err != nil || len(again) != 4 {
		t.Fatal(again, err)
	}
	for i := range first {
		if again[i] != first[i] {
			t.Errorf("node %d moved from %v to %v", i, first[i], again[i])
		}
	}
	if _, err := devNodes(dir, "127.0.0.1", 0, 2); err == nil || !strings.Contains(err.Error(), "4 brokers") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "brokers.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := devNodes(dir, "127.0.0.1", 0, 2); err == nil || !strings.Contains(err.Error(), "brokers.json") {
		t.Error(err)
	}
	single := t.TempDir()
	if err := os.WriteFile(filepath.Join(single, "meta.properties"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := devNodes(single, "127.0.0.1", 0, 3); err == nil || !strings.Contains(err.Error(), "single broker") {
		t.Error(err)
	}
}
