package record

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"
)

// minRecordBytes is the least that a record takes: its size, and six fields of one byte.
const minRecordBytes = 7

// plausible looks at the frame of a compressed payload without decompressing it: magic numbers, sizes of blocks, that the
// stream ends where the payload does, that n records can be in it. It touches a few bytes per block of 32 KiB and more. What it refuses no
// decoder can read; what it lets pass may still be broken inside.
func plausible(c Codec, payload []byte, n int32) bool {
	switch c {
	case Gzip:
		return gzipPlausible(payload)
	case Snappy:
		return snappyPlausible(payload, n)
	case LZ4:
		return lz4Plausible(payload)
	case Zstd:
		shape, ok := zstdShape(payload)
		return ok && shape.most >= uint64(n)*minRecordBytes && (shape.window <= zstdMaxWindowBytes || shape.single)
	}
	return true
}

// gzipPlausible: magic, method deflate, no reserved flags, room for the header, an empty stream and the trailer.
func gzipPlausible(b []byte) bool {
	return len(b) >= 20 && b[0] == 0x1f && b[1] == 0x8b && b[2] == 8 && b[3]&0xe0 == 0
}

func snappyPlausible(b []byte, n int32) bool {
	if !isXerial(b) {
		size, ok := snappyBlock(b)
		return ok && size >= uint64(n)*minRecordBytes
	}
	var total uint64
	for len(b) > 0 {
		if isXerial(b) {
			b = b[xerialHeaderSize:]
			continue
		}
		if len(b) < 4 {
			return false
		}
		size := uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
		if size > uint64(len(b)) {
			return false
		}
		out, ok := snappyBlock(b[:size])
		if !ok {
			return false
		}
		total += out
		b = b[size:]
	}
	return total >= uint64(n)*minRecordBytes
}

// snappyBlock gives the size that one block says it decodes to. The first element of a block that is not empty is a literal.
func snappyBlock(b []byte) (uint64, bool) {
	size, err := s2.DecodedLen(b)
	if err != nil || size > snappyMaxRatio*len(b) {
		return 0, false
	}
	if size == 0 {
		return 0, true
	}
	at := 1
	for at < len(b) && b[at-1] >= 0x80 {
		at++
	}
	return uint64(size), at < len(b) && b[at]&3 == 0
}

const (
	lz4Magic         = 0x184d2204
	lz4FlagVersion   = 0xc0
	lz4FlagBlockSum  = 0x10
	lz4FlagSize      = 0x08
	lz4FlagSum       = 0x04
	lz4FlagDict      = 0x01
	lz4BlockStored   = 1 << 31
	lz4LeastBlockID  = 4
	lz4BlockSizeBase = 8 // a block size id of i means 1 << (8 + 2i) bytes at most
)

// lz4Plausible walks the first frame from block to block to its end mark. As Kafka's own reader does, it ignores what follows.
func lz4Plausible(b []byte) bool {
	if len(b) < 7 || binary.LittleEndian.Uint32(b) != lz4Magic || b[4]&lz4FlagVersion != 0x40 {
		return false
	}
	flags, id := b[4], b[5]>>4&7
	if id < lz4LeastBlockID {
		return false
	}
	most := 1 << (lz4BlockSizeBase + 2*int(id))
	head := 7
	if flags&lz4FlagSize != 0 {
		head += 8
	}
	if flags&lz4FlagDict != 0 {
		head += 4
	}
	if len(b) < head {
		return false
	}
	b = b[head:]
	for {
		if len(b) < 4 {
			return false
		}
		size := int(binary.LittleEndian.Uint32(b) &^ lz4BlockStored)
		b = b[4:]
		if size == 0 {
			return flags&lz4FlagSum == 0 || len(b) >= 4
		}
		if flags&lz4FlagBlockSum != 0 {
			size += 4
		}
		if size > most+4 || size > len(b) {
			return false
		}
		b = b[size:]
	}
}

// shape is what the frames of a zstd payload say of themselves.
type shape struct {
	window  uint64 // the largest window asked for
	single  bool   // every large window is the content itself
	content uint64 // the sum of the content sizes that are given
	most    uint64 // what the blocks can decode to at most
}

const (
	zstdMagic         = 0xfd2fb528
	zstdSkippable     = 0x184d2a50
	zstdSkippableMask = 0xfffffff0
	zstdBlockBytes    = 128 << 10
)

// zstdShape walks all frames from block to block; false where they do not end where the payload does.
func zstdShape(b []byte) (shape, bool) {
	s := shape{single: true}
	for frames := 0; len(b) > 0; frames++ {
		if len(b) < 8 {
			return s, false
		}
		magic := binary.LittleEndian.Uint32(b)
		if magic&zstdSkippableMask == zstdSkippable {
			size := uint64(binary.LittleEndian.Uint32(b[4:]))
			if size > uint64(len(b)-8) {
				return s, false
			}
			b = b[8+size:]
			continue
		}
		if magic != zstdMagic {
			return s, false
		}
		var ok bool
		if b, ok = s.frame(b[4:]); !ok {
			return s, false
		}
	}
	return s, s.most > 0 || s.content == 0
}

// frame reads one frame after its magic and gives what follows it.
func (s *shape) frame(b []byte) ([]byte, bool) {
	desc := b[0]
	single, sum := desc&0x20 != 0, desc&0x04 != 0
	if desc&0x08 != 0 {
		return nil, false // reserved
	}
	b = b[1:]
	var window, content uint64
	if !single {
		w := b[0]
		base := uint64(1) << (10 + w>>3)
		window = base + base/8*uint64(w&7)
		b = b[1:]
	}
	dict := [4]int{0, 1, 2, 4}[desc&3]
	fcs := [4]int{0, 2, 4, 8}[desc>>6]
	if fcs == 0 && single {
		fcs = 1
	}
	if len(b) < dict+fcs {
		return nil, false
	}
	b = b[dict:]
	for i := range fcs {
		content |= uint64(b[i]) << (8 * i)
	}
	if fcs == 2 {
		content += 256
	}
	b = b[fcs:]
	var most uint64
	for last := false; !last; {
		if len(b) < 3 {
			return nil, false
		}
		h := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = h&1 != 0
		kind, size := h>>1&3, int(h>>3)
		b = b[3:]
		most += zstdBlockBytes
		if kind == 1 {
			size = 1 // one byte, repeated
		}
		if kind == 3 || size > zstdBlockBytes || size > len(b) {
			return nil, false
		}
		b = b[size:]
	}
	if sum {
		if len(b) < 4 {
			return nil, false
		}
		b = b[4:]
	}
	if content > most {
		return nil, false
	}
	if single {
		window = content
	}
	if window > zstdWindowBytes && !single {
		s.single = false
	}
	s.window = max(s.window, window)
	s.content += content
	s.most += most
	return b, true
}
