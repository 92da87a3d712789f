package api

import "unicode/utf16"

// utf16Units are the units over which Java hashes a string.
func utf16Units(s string) []uint16 { return utf16.Encode([]rune(s)) }
