package coordinator

import "unicode/utf16"

// Home is the partition that owns an id in a coordinator topic of n partitions: Java's hash of the string, made non-negative, modulo.
func Home(id string, n int) int32 {
	var h int32
	for _, u := range utf16.Encode([]rune(id)) {
		h = 31*h + int32(u)
	}
	return (h & 0x7fffffff) % int32(n)
}
