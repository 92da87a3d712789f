package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ottla/ottla/internal/vfs"
)

// The journal of a log dir: a ring of files in Dir/.ottla-journal, written in whole blocks and made durable write by write.
// docs/mechanisms/journal.md has the format as byte boxes.
//
// A file is used from its start. Its frames carry the file's sequence number, which grows by one with every use of any
// file, so what an earlier use left behind ends the file for a reader. A write starts on a block boundary and is padded
// with zeros. Files are recycled, and overwritten, strictly in the order of their sequence numbers: a truncate marker stands in
// the same file as the frames it takes back or in a later one, so it is never gone before them. A file that is free still holds its
// frames until it is used again, and a replay reads them.
const (
	journalDirName = ".ottla-journal"
	journalSuffix  = ".jrn"

	blockSize        = 4096
	frameMagic       = 0x4f4a4631 // "OJF1"
	frameHeaderBytes = 80
	frameData        = 1
	frameTruncate    = 2 // First is the offset; everything of the partition with Next above it is void

	// journalBufferBytes is the largest single write.
	journalBufferBytes = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame layout, big endian, as offsets into the header.
const (
	fMagic     = 0  // uint32
	fCRC       = 4  // uint32, CRC-32C of everything from fLength to the end of the payload
	fLength    = 8  // uint32, the whole frame without padding
	fKind      = 12 // uint8
	fVersion   = 13 // uint8, 0
	fTopicLen  = 14 // uint16
	fSequence  = 16 // uint64, of the file
	fTopicID   = 24 // 16 bytes
	fPartition = 40 // int32
	fReserved  = 44 // uint32, 0
	fSegment   = 48 // int64
	fPos       = 56 // int64
	fFirst     = 64 // int64
	fNext      = 72 // int64
)

// appendFrame appends a frame to dst.
func appendFrame(dst []byte, kind byte, sequence uint64, f *journalFrame) []byte {
	start := len(dst)
	n := frameHeaderBytes + len(f.Topic) + len(f.Payload)
	var h [frameHeaderBytes]byte
	be := binary.BigEndian
	be.PutUint32(h[fMagic:], frameMagic)
	be.PutUint32(h[fLength:], uint32(n))
	h[fKind] = kind
	be.PutUint16(h[fTopicLen:], uint16(len(f.Topic)))
	be.PutUint64(h[fSequence:], sequence)
	copy(h[fTopicID:], f.TopicID[:])
	be.PutUint32(h[fPartition:], uint32(f.Partition))
	be.PutUint64(h[fSegment:], uint64(f.SegmentBase))
	be.PutUint64(h[fPos:], uint64(f.Pos))
	be.PutUint64(h[fFirst:], uint64(f.First))
	be.PutUint64(h[fNext:], uint64(f.Next))
	dst = append(dst, h[:]...)
	dst = append(dst, f.Topic...)
	dst = append(dst, f.Payload...)
	be.PutUint32(dst[start+fCRC:], crc32.Checksum(dst[start+fLength:], castagnoli))
	return dst
}

// frameSize is what a frame takes in the buffer.
func frameSize(topic string, payload int) int { return frameHeaderBytes + len(topic) + payload }

// parseFrame reads the frame at the start of b. ok is false where none, or no whole one, stands there.
func parseFrame(b []byte) (f journalFrame, kind byte, sequence uint64, size int, ok bool) {
	if len(b) < frameHeaderBytes {
		return
	}
	be := binary.BigEndian
	if be.Uint32(b[fMagic:]) != frameMagic {
		return
	}
	n, topicLen := int64(be.Uint32(b[fLength:])), int64(be.Uint16(b[fTopicLen:]))
	if n < frameHeaderBytes+topicLen || n > int64(len(b)) || b[fVersion] != 0 {
		return
	}
	if crc32.Checksum(b[fLength:n], castagnoli) != be.Uint32(b[fCRC:]) {
		return
	}
	f.Topic = string(b[frameHeaderBytes : frameHeaderBytes+topicLen])
	f.Partition = int32(be.Uint32(b[fPartition:]))
	copy(f.TopicID[:], b[fTopicID:])
	f.SegmentBase, f.Pos = int64(be.Uint64(b[fSegment:])), int64(be.Uint64(b[fPos:]))
	f.First, f.Next = int64(be.Uint64(b[fFirst:])), int64(be.Uint64(b[fNext:]))
	f.Payload = b[frameHeaderBytes+topicLen : n]
	return f, b[fKind], be.Uint64(b[fSequence:]), int(n), true
}

// walkFrames calls visit for every frame of a journal file's content until visit returns false or the file ends: at the first block
// that holds no whole frame of the sequence that the first one has.
func walkFrames(b []byte, visit func(f *journalFrame, kind byte, sequence uint64) bool) {
	var sequence uint64
	first := true
	for at := 0; at < len(b); {
		f, kind, seq, size, ok := parseFrame(b[at:])
		if !ok {
			next := (at/blockSize + 1) * blockSize
			if at%blockSize == 0 || next >= len(b) || !isZero(b[at:min(next, at+4)]) {
				return
			}
			at = next
			continue
		}
		if first {
			sequence, first = seq, false
		}
		if seq != sequence || !visit(&f, kind, seq) {
			return
		}
		at += size
	}
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// journalFile is one file of the ring.
type journalFile struct {
	name     string
	f        vfs.File
	sequence uint64
	used     int64
	// pending are the logs whose segments are not known to be durable up to the end of their frames in this file.
	pending map[*Log]int64
}

// journal is the ring. It belongs to the committer's goroutine except where committer.mu is named.
type journal struct {
	fs        vfs.FS
	dir       string
	files     int
	fileBytes int64
	direct    bool // O_DIRECT|O_DSYNC; else a write is followed by a sync

	inUse    []*journalFile // by sequence; the last is being written. Guarded by committer.mu
	free     []*journalFile // by the sequence of their last use, oldest first. Guarded by committer.mu
	sequence uint64         // of the newest file
	nextName int
	named    bool   // the name of the journal's own directory is durable
	buf      []byte // aligned, made at first use
}

func newJournal(fsys vfs.FS, dir string, files int, fileBytes int64) *journal {
	return &journal{fs: fsys, dir: dir + "/" + journalDirName, files: max(files, 2), fileBytes: fileBytes / blockSize * blockSize, direct: true}
}

// list names the files on disk, in order of their names.
func (j *journal) list() ([]string, error) {
	entries, err := j.fs.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), journalSuffix)); err == nil && strings.HasSuffix(e.Name(), journalSuffix) {
			names = append(names, e.Name())
			j.nextName = max(j.nextName, n+1)
		}
	}
	slices.Sort(names)
	return names, nil
}

// open makes or opens a file of the ring.
func (j *journal) open(name string) (*journalFile, error) {
	path := j.dir + "/" + name
	flags := os.O_RDWR | os.O_CREATE
	if j.direct {
		f, err := j.fs.OpenFile(path, flags|unix.O_DIRECT|unix.O_DSYNC, 0o600)
		if err == nil {
			return &journalFile{name: name, f: f, pending: map[*Log]int64{}}, nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		j.direct = false
	}
	f, err := j.fs.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &journalFile{name: name, f: f, pending: map[*Log]int64{}}, nil
}

// create adds a file to the ring and makes its name durable.
func (j *journal) create() (*journalFile, error) {
	if err := j.fs.MkdirAll(j.dir, 0o700); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%08d%s", j.nextName, journalSuffix)
	j.nextName++
	f, err := j.open(name)
	if err != nil {
		return nil, err
	}
	if err := f.f.Preallocate(0, j.fileBytes); err != nil {
		return nil, errors.Join(err, f.f.Close(), j.fs.Remove(j.dir+"/"+name))
	}
	if err := f.f.Sync(); err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	if err := j.fs.SyncDir(j.dir); err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	if !j.named {
		if err := j.fs.SyncDir(strings.TrimSuffix(j.dir, "/"+journalDirName)); err != nil {
			return nil, errors.Join(err, f.f.Close())
		}
		j.named = true
	}
	return f, nil
}

// buffer is the aligned buffer, empty.
func (j *journal) buffer() []byte {
	if j.buf == nil {
		j.buf = alignedBytes(journalBufferBytes + blockSize)
	}
	return j.buf[:0]
}

func alignedBytes(n int) []byte {
	b := make([]byte, n+blockSize)
	shift := 0
	if rem := int(uintptr(unsafe.Pointer(&b[0])) % blockSize); rem != 0 {
		shift = blockSize - rem
	}
	return b[shift : shift+n : shift+n]
}

// write makes buf, which is the journal's buffer, durable at the end of file.
func (j *journal) write(file *journalFile, buf []byte) error {
	padded := (len(buf) + blockSize - 1) / blockSize * blockSize
	clear(buf[len(buf):padded])
	if _, err := file.f.WriteAt(buf[:padded], file.used); err != nil {
		return fmt.Errorf("write journal %s/%s at %d: %w", j.dir, file.name, file.used, err)
	}
	if !j.direct {
		if err := file.f.Sync(); err != nil {
			return fmt.Errorf("sync journal %s/%s: %w", j.dir, file.name, err)
		}
	}
	file.used += int64(padded)
	return nil
}

// content reads a whole file.
func (j *journal) content(name string) ([]byte, error) {
	f, err := j.fs.OpenFile(j.dir+"/"+name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > 1<<30 {
		return nil, fmt.Errorf("journal %s/%s has %d bytes, more than any journal file can have", j.dir, name, size)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) && err != nil {
		return nil, fmt.Errorf("read journal %s/%s: %w", j.dir, name, err)
	}
	return b, nil
}
