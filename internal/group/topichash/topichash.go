// Package topichash is the hash of what a group depends on in the metadata: its topics' ids, names, partitions and
// racks. It is the one Kafka keeps, so that a group that moves here from there has no reason to rebalance. It knows the
// image; it must never know a group.
package topichash

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"

	"github.com/zeebo/xxh3"

	"github.com/ottla/ottla/internal/metadata"
)

// Group is the hash over topics in order of their names; 0 for none. Topics that are not there do not count.
func Group(img *metadata.Image, names []string) int64 {
	if img == nil {
		return 0
	}
	var sum []byte
	for _, n := range names {
		if t := img.Topic(n); t != nil {
			sum = binary.LittleEndian.AppendUint64(sum, topic(img, t))
		}
	}
	if len(sum) == 0 {
		return 0
	}
	return int64(xxh3.Hash(sum))
}

func topic(img *metadata.Image, t *metadata.Topic) uint64 {
	le := binary.LittleEndian
	b := make([]byte, 0, 64+4*len(t.Partitions))
	b = append(b, 0) // version of the format
	b = le.AppendUint64(b, binary.BigEndian.Uint64(t.ID[:8]))
	b = le.AppendUint64(b, binary.BigEndian.Uint64(t.ID[8:]))
	b = appendText(b, t.Name)
	b = le.AppendUint32(b, uint32(len(t.Partitions)))
	var racks []string
	for i, p := range t.Partitions {
		b = le.AppendUint32(b, uint32(i))
		if p == nil {
			continue
		}
		racks = racks[:0]
		for _, r := range p.Replicas {
			if br := img.Broker(r); br != nil && br.Rack != nil {
				racks = append(racks, *br.Rack)
			}
		}
		slices.Sort(racks)
		for _, r := range slices.Compact(racks) {
			b = le.AppendUint32(b, uint32(len(utf16.Encode([]rune(r)))))
			b = appendText(b, r)
		}
	}
	return xxh3.Hash(b)
}

// appendText is a text as UTF-16 and then its length in units.
func appendText(b []byte, s string) []byte {
	units := utf16.Encode([]rune(s))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return binary.LittleEndian.AppendUint32(b, uint32(len(units)))
}
