// Package replicas compares what the replicas of a partition have on their disks, byte by byte. It knows the frame of a record batch
// in a segment (offset, length); it must never know what is in it, nor why replicas differ.
package replicas

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

const largest = 64 << 20 // of a batch

// Compare compares the logs of a partition in the given data directories. It returns the first offset at which two of them differ, or
// -1; a log that is shorter than another, or absent, differs where it ends.
func Compare(dirs []string, partition string) (at int64, note string, err error) {
	var logs []*log
	defer func() {
		for _, l := range logs {
			l.close()
		}
	}()
	for _, d := range dirs {
		l, err := open(filepath.Join(d, partition))
		if err != nil {
			return 0, "", err
		}
		logs = append(logs, l)
	}
	for {
		var first []byte
		var firstOff int64
		for i, l := range logs {
			off, b, err := l.next()
			if err != nil {
				return off, fmt.Sprintf("%s of replica %d: %v", partition, i+1, err), nil
			}
			switch {
			case i == 0:
				first, firstOff = b, off
			case b == nil && first == nil:
			case b == nil:
				return firstOff, fmt.Sprintf("replica %d ends before it, replica 1 goes on", i+1), nil
			case first == nil:
				return off, fmt.Sprintf("replica 1 ends before it, replica %d goes on", i+1), nil
			case off != firstOff || !bytes.Equal(first, b):
				return min(off, firstOff), fmt.Sprintf("replica 1 has a batch of %d bytes at offset %d, replica %d one of %d bytes at %d", len(first), firstOff, i+1, len(b), off), nil
			}
		}
		if first == nil {
			return -1, "", nil
		}
	}
}

// log reads the batches of a partition's segments one after the other.
type log struct {
	segments []string
	file     *os.File
	r        *bufio.Reader
	at       int64
}

func open(dir string) (*log, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l := &log{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".log") {
			l.segments = append(l.segments, filepath.Join(dir, e.Name()))
		}
	}
	sort.Strings(l.segments)
	return l, nil
}

func (l *log) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// next returns the next batch; nil is the end. Zeros behind the last batch of a segment are space that was reserved.
func (l *log) next() (int64, []byte, error) {
	for {
		if l.r == nil {
			if len(l.segments) == 0 {
				return l.at, nil, nil
			}
			f, err := os.Open(l.segments[0])
			if err != nil {
				return l.at, nil, err
			}
			l.segments, l.file = l.segments[1:], f
			l.r = bufio.NewReaderSize(f, 1<<16)
		}
		var head [12]byte
		_, err := io.ReadFull(l.r, head[:])
		size := int64(binary.BigEndian.Uint32(head[8:]))
		if errors.Is(err, io.EOF) || err == nil && size == 0 {
			l.file.Close()
			l.r, l.file = nil, nil
			continue
		}
		if err != nil || size > largest {
			return l.at, nil, fmt.Errorf("no batch at %d bytes: %w", size, errors.Join(err, errors.New("damaged")))
		}
		b := make([]byte, 12+size)
		copy(b, head[:])
		if _, err := io.ReadFull(l.r, b[12:]); err != nil {
			return l.at, nil, fmt.Errorf("a part of a batch: %w", err)
		}
		l.at = int64(binary.BigEndian.Uint64(head[:8]))
		return l.at, b, nil
	}
}
