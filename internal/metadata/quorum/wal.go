package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ottla/ottla/internal/vfs"
)

// The file of the consensus library's state is a row of frames. Each is one write and one fsync, so a crash can damage the last one only:
//
//	frame    u32 length of the body, u32 CRC-32C of the body, body
//	body     parts: u8 kind (1 hard state, 2 entry, 3 snapshot), u32 length, protobuf
//
// It is written anew from time to time, with a snapshot's position in place of the entries before it.
const (
	walName      = "raft.wal"
	walMagic     = "ottlaraft1\n"
	frameHead    = 8
	maxFrameSize = 256 << 20
)

const (
	partState byte = iota + 1
	partEntry
	partSnapshot
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type wal struct {
	fs   vfs.FS
	dir  string
	file vfs.File
	end  int64
	buf  []byte
}

// Exists says whether a directory holds the state of a member of a quorum.
func Exists(f vfs.FS, dir string) bool {
	_, err := f.Stat(path.Join(dir, walName))
	return err == nil
}

// openWAL reads the file into a storage of the library. A file that is not there gives an empty storage.
func openWAL(f vfs.FS, dir string) (*wal, *raft.MemoryStorage, error) {
	w := &wal{fs: f, dir: dir}
	ms := raft.NewMemoryStorage()
	name := path.Join(dir, walName)
	file, err := f.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return w, ms, nil
	}
	if err != nil {
		return nil, nil, err
	}
	w.file = file
	size, err := file.Size()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	b := make([]byte, size)
	if n, err := file.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return nil, nil, errors.Join(err, file.Close())
	}
	if err := w.replay(b, ms); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
	}
	if w.end < size {
		if err := errors.Join(file.Truncate(w.end), file.Sync()); err != nil {
			return nil, nil, errors.Join(err, file.Close())
		}
	}
	return w, ms, nil
}

// nextFrame gives the body of the frame at the start of b and its whole size; false where there is no whole frame.
func nextFrame(b []byte) (body []byte, size int, ok bool) {
	if len(b) < frameHead {
		return nil, 0, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > maxFrameSize || uint64(n) > uint64(len(b)-frameHead) {
		return nil, 0, false
	}
	body = b[frameHead : frameHead+int(n)]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, 0, false
	}
	return body, frameHead + int(n), true
}

func (w *wal) replay(b []byte, ms *raft.MemoryStorage) error {
	if len(b) < len(walMagic) || string(b[:len(walMagic)]) != walMagic {
		return errors.New("is not the state of a quorum's member; restore it, or remove the member from the quorum and let it join anew")
	}
	pos := len(walMagic)
	for pos < len(b) {
		body, size, ok := nextFrame(b[pos:])
		if !ok {
			for at := pos + 1; at < len(b); at++ {
				if _, _, ok := nextFrame(b[at:]); ok {
					return fmt.Errorf("damaged at byte %d although more follows at %d: what this node has promised is not known; remove it from the quorum and let it join anew with an empty directory", pos, at)
				}
			}
			break
		}
		if err := replayFrame(body, ms); err != nil {
			return fmt.Errorf("at byte %d: %w", pos, err)
		}
		pos += size
	}
	w.end = int64(pos)
	return nil
}

func replayFrame(body []byte, ms *raft.MemoryStorage) error {
	for len(body) > 0 {
		if len(body) < 5 || uint64(binary.BigEndian.Uint32(body[1:])) > uint64(len(body)-5) {
			return errors.New("a part that is cut off")
		}
		kind, n := body[0], int(binary.BigEndian.Uint32(body[1:]))
		part := body[5 : 5+n]
		body = body[5+n:]
		var err error
		switch kind {
		case partState:
			st := &pb.HardState{}
			if err = proto.Unmarshal(part, st); err == nil {
				err = ms.SetHardState(st)
			}
		case partEntry:
			e := &pb.Entry{}
			if err = proto.Unmarshal(part, e); err == nil {
				err = ms.Append([]*pb.Entry{e})
			}
		case partSnapshot:
			s := &pb.Snapshot{}
			if err = proto.Unmarshal(part, s); err == nil {
				err = ms.ApplySnapshot(s)
			}
		default:
			err = fmt.Errorf("unknown part %d: written by a newer version", kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func appendPart(dst []byte, kind byte, m proto.Message) ([]byte, error) {
	at := len(dst)
	dst = append(dst, kind, 0, 0, 0, 0)
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-5))
	return dst, err
}

// frame makes the bytes of one frame in w.buf.
func (w *wal) frame(st *pb.HardState, entries []*pb.Entry, snap *pb.Snapshot) error {
	b := append(w.buf[:0], make([]byte, frameHead)...)
	var err error
	if snap != nil {
		if b, err = appendPart(b, partSnapshot, snap); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if b, err = appendPart(b, partEntry, e); err != nil {
			return err
		}
	}
	if st != nil {
		if b, err = appendPart(b, partState, st); err != nil {
			return err
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-frameHead))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[frameHead:], castagnoli))
	w.buf = b
	return nil
}

// save makes a state, entries and a snapshot's position durable.
func (w *wal) save(st *pb.HardState, entries []*pb.Entry, snap *pb.Snapshot) error {
	if w.file == nil {
		return w.rewrite(st, entries, snap)
	}
	if err := w.frame(st, entries, snap); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(w.buf, w.end); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	w.end += int64(len(w.buf))
	if cap(w.buf) > 4<<20 {
		w.buf = nil
	}
	return nil
}

// rewrite replaces the file by one with only what is given.
func (w *wal) rewrite(st *pb.HardState, entries []*pb.Entry, snap *pb.Snapshot) error {
	if err := w.frame(st, entries, snap); err != nil {
		return err
	}
	name := path.Join(w.dir, walName)
	f, err := w.fs.OpenFile(name+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	content := append([]byte(walMagic), w.buf...)
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = w.fs.Rename(name+".tmp", name)
	}
	if err == nil {
		err = w.fs.SyncDir(w.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if w.file != nil {
		err = w.file.Close()
	}
	w.file, w.end = f, int64(len(content))
	return err
}

func (w *wal) close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
