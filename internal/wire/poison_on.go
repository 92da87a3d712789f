//go:build race || invariants

package wire

// poison spoils released memory, so that a use after Release shows up as a wrong CRC in tests.
func poison(b []byte) {
	if len(b) > 1<<16 {
		b = b[:1<<16]
	}
	for i := range b {
		b[i] = 0xdb
	}
}
