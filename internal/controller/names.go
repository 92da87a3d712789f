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

// collisions holds the existing names by collisionKey. It is built once for a request, on the first name that needs it.
type collisions struct {
	img  *metadata.Image
	keys map[string]string
}

// with finds an existing topic that differs from name in '.' and '_' only.
func (c *collisions) with(name string) (other string, ok bool) {
	key, can := collisionKey(name)
	if !can {
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
