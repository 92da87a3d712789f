package controller

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

const maxNameLength = 249

// MetadataTopic is the name of the metadata log, which is no topic to create, alter or delete.
const MetadataTopic = "__cluster_metadata"

// CheckTopicName refuses names that cannot be a topic's: INVALID_TOPIC_EXCEPTION.
func CheckTopicName(name string) error {
	bad := func(format string, args ...any) error {
		return wire.Errorf(kerr.InvalidTopicException, "Topic name is invalid: %s", fmt.Sprintf(format, args...))
	}
	switch {
	case name == "":
		return bad("the empty string is not allowed")
	case name == "." || name == "..":
		return bad("'%s' is not allowed", name)
	case len([]rune(name)) > maxNameLength:
		return bad("the length of '%s' is longer than the max allowed length %d", name, maxNameLength)
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return bad("'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}

// IsInternal says whether a topic is the broker's own: clients see it marked and cannot produce to it.
func IsInternal(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state"
}

// collisionKey makes names equal that would be the same in metrics, where '.' and '_' are one.
func collisionKey(name string) (string, bool) {
	return strings.ReplaceAll(name, ".", "_"), strings.ContainsAny(name, "._")
}

// collisions finds existing names that differ from a new one in '.' and '_' only.
type collisions struct {
	img  *metadata.Image
	keys map[string]string // existing names by collisionKey, made once for a request and only when variants are too many
}

// maxVariantBits bounds the '.' and '_' in a name whose variants are looked up one by one.
const maxVariantBits = 8

func (c *collisions) with(name string) (other string, ok bool) {
	key, can := collisionKey(name)
	if !can {
		return "", false
	}
	var at []int
	for i := range len(name) {
		if key[i] == '_' {
			at = append(at, i)
		}
	}
	if len(at) <= maxVariantBits {
		variant := []byte(key)
		for bits := range 1 << len(at) {
			for i, pos := range at {
				if variant[pos] = '_'; bits&(1<<i) != 0 {
					variant[pos] = '.'
				}
			}
			if v := string(variant); v != name && c.img.Topic(v) != nil {
				return v, true
			}
		}
		return "", false
	}
	if c.keys == nil {
		c.keys = map[string]string{}
		for t := range c.img.Topics() {
			if k, can := collisionKey(t.Name); can {
				c.keys[k] = t.Name
			}
		}
	}
	other, ok = c.keys[key]
	return other, ok && other != name
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// duplicates gives the names that occur more than once, each once, in order.
func duplicates(names []string) []string {
	count := map[string]int{}
	var out []string
	for _, n := range names {
		if count[n]++; count[n] == 2 {
			out = append(out, n)
		}
	}
	return out
}

// setOf is a list as a set: requests may carry lists of any length, and nothing here may take their square.
func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, e := range list {
		set[e] = true
	}
	return set
}
