package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

const abortedEntrySize = 34

// abortedEntry is one aborted transaction: its records lie in [first, last), its marker at last. lastStable is the last
// stable offset that the marker left behind: a reader that needs no record from there on needs no later entry either.
type abortedEntry struct{ producerID, first, last, lastStable int64 }

// appendAborted writes e in the form of a .txnindex file.
func appendAborted(b []byte, e abortedEntry) []byte {
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(e.producerID))
	b = binary.BigEndian.AppendUint64(b, uint64(e.first))
	b = binary.BigEndian.AppendUint64(b, uint64(e.last))
	return binary.BigEndian.AppendUint64(b, uint64(e.lastStable))
}

// parseAborted reads a .txnindex file of the segment at base. Anything that such a file cannot hold is an error: the
// index is then built again from the log.
func parseAborted(b []byte, base int64) ([]abortedEntry, error) {
	if len(b)%abortedEntrySize != 0 {
		return nil, fmt.Errorf("transaction index of %d bytes is no multiple of %d", len(b), abortedEntrySize)
	}
	out := make([]abortedEntry, 0, len(b)/abortedEntrySize)
	prev := base - 1
	for ; len(b) > 0; b = b[abortedEntrySize:] {
		if v := binary.BigEndian.Uint16(b); v != 0 {
			return nil, fmt.Errorf("transaction index entry of version %d", v)
		}
		e := abortedEntry{int64(binary.BigEndian.Uint64(b[2:])), int64(binary.BigEndian.Uint64(b[10:])),
			int64(binary.BigEndian.Uint64(b[18:])), int64(binary.BigEndian.Uint64(b[26:]))}
		if e.producerID < 0 || e.first < 0 || e.first > e.last || e.last <= prev || e.lastStable < 0 {
			return nil, fmt.Errorf("transaction index entry %+v after offset %d cannot be", e, prev)
		}
		prev = e.last
		out = append(out, e)
	}
	return out, nil
}

// txnIndex is the list of aborted transactions whose marker lies in one segment. Most segments have none, and no file.
type txnIndex struct {
	c    *fileCache
	file *file
	base int64

	mu      sync.Mutex
	loaded  bool
	entries []abortedEntry
	dirty   bool
}

func newTxnIndex(c *fileCache, f *file, base int64) *txnIndex {
	return &txnIndex{c: c, file: f, base: base}
}

func (x *txnIndex) loadLocked() error {
	if x.loaded {
		return nil
	}
	b, err := readFile(x.c.fs, x.path(), maxTxnIndexBytes)
	if errors.Is(err, fs.ErrNotExist) {
		x.loaded = true
		return nil
	}
	if err != nil {
		return err
	}
	if x.entries, err = parseAborted(b, x.base); err != nil {
		return err
	}
	x.loaded = true
	return nil
}

const maxTxnIndexBytes = 1 << 30

func (x *txnIndex) path() string {
	x.file.mu.Lock()
	defer x.file.mu.Unlock()
	return x.file.path
}

// add appends an entry, in the file at once: they are rare.
func (x *txnIndex) add(e abortedEntry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.loadLocked(); err != nil {
		return err
	}
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	if _, err := f.WriteAt(appendAborted(nil, e), int64(len(x.entries))*abortedEntrySize); err != nil {
		return err
	}
	x.entries = append(x.entries, e)
	x.dirty = true
	return nil
}

// touch makes the file, be it empty.
func (x *txnIndex) touch() error {
	if _, err := x.file.acquire(); err != nil {
		return err
	}
	x.file.release()
	return nil
}

// list gives the entries; the slice must not be changed.
func (x *txnIndex) list() ([]abortedEntry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.loadLocked(); err != nil {
		return nil, err
	}
	return x.entries[:len(x.entries):len(x.entries)], nil
}

// truncate keeps the entries whose marker is below offset.
func (x *txnIndex) truncate(offset int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.loadLocked(); err != nil {
		x.salvage() // what a crash has torn, the caller builds again from the log
	}
	n := len(x.entries)
	for n > 0 && x.entries[n-1].last >= offset {
		n--
	}
	if !exists(x.c.fs, x.path()) {
		return nil
	}
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	x.entries = x.entries[:n:n]
	x.dirty = true
	return f.Truncate(int64(n) * abortedEntrySize)
}

// salvage takes the entries before the first that no index can hold. REQUIRES: mu.
func (x *txnIndex) salvage() {
	x.entries, x.loaded = nil, true
	b, err := readFile(x.c.fs, x.path(), maxTxnIndexBytes)
	if err != nil {
		return
	}
	for n := len(b) / abortedEntrySize; n > 0; n-- {
		if x.entries, err = parseAborted(b[:n*abortedEntrySize], x.base); err == nil {
			return
		}
	}
	x.entries = nil
}

func (x *txnIndex) sync() error {
	x.mu.Lock()
	dirty := x.dirty
	x.dirty = false
	x.mu.Unlock()
	if !dirty {
		return nil
	}
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	return f.Sync()
}
