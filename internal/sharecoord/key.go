package sharecoord

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/ottla/ottla/internal/wire/schema"
)

// Key names one share-partition: what one share group knows of one topic partition.
type Key struct {
	Group     string
	TopicID   schema.UUID
	Partition int32
}

// String is the key as FindCoordinator has it: group:topic id:partition.
func (k Key) String() string {
	return k.Group + ":" + base64.RawURLEncoding.EncodeToString(k.TopicID[:]) + ":" + strconv.Itoa(int(k.Partition))
}

var errKey = errors.New("the key of a share-partition is group:topic id:partition")

// ParseKey reads what String writes. A group id may hold colons.
func ParseKey(s string) (Key, error) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return Key{}, errKey
	}
	n, err := strconv.ParseInt(s[at+1:], 10, 32)
	if err != nil {
		return Key{}, errKey
	}
	s = s[:at]
	if at = strings.LastIndexByte(s, ':'); at <= 0 || strings.TrimSpace(s[:at]) == "" {
		return Key{}, errKey
	}
	id, err := base64.RawURLEncoding.DecodeString(s[at+1:])
	if err != nil || len(id) != len(schema.UUID{}) {
		return Key{}, errKey
	}
	return Key{s[:at], schema.UUID(id), int32(n)}, nil
}

// Home is the partition of the state topic that keeps the key, where that topic has n partitions: Java's hash of the text.
func (k Key) Home(n int) int32 {
	var h int32
	for _, u := range utf16.Encode([]rune(k.String())) {
		h = 31*h + int32(u)
	}
	return (h & 0x7fffffff) % int32(n)
}
