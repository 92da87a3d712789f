package quorum

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/ottla/ottla/internal/vfs"
)

func testEntry(index uint64, data string) *pb.Entry {
	term := uint64(1)
	return &pb.Entry{Index: &index, Term: &term, Data: []byte(data)}
}

func readState(t *testing.T, f vfs.FS) []byte {
	t.Helper()
	file, err := f.OpenFile("/q/"+walName, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	size, _ := file.Size()
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeState(t *testing.T, b []byte) vfs.FS {
	t.Helper()
	f := vfs.NewMem()
	if err := f.MkdirAll("/q", 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := f.OpenFile("/q/"+walName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func testMember() Member { return Member{Node: 1, Dir: [16]byte{1}} }

// stateFile is a file with three entries behind the snapshot, and where the last frame begins.
func stateFile(t *testing.T) (content []byte, last int) {
	t.Helper()
	f := vfs.NewMem()
	if err := f.MkdirAll("/q", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(f, "/q", testMember(), 40, 3); err != nil {
		t.Fatal(err)
	}
	w, _, err := openWAL(f, "/q")
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); i < 5; i++ {
		last = int(w.end)
		if err := w.save(nil, []*pb.Entry{testEntry(i, "entry")}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	return readState(t, f), last
}

// A crash can cut the last frame at any byte, or leave anything in it: it is as if it had never been. What was confirmed before stays.
func TestStateFileWithATornEnd(t *testing.T) {
	content, last := stateFile(t)
	for cut := last; cut < len(content); cut++ {
		for _, fill := range []int{0, len(content) - cut} {
			b := append(append([]byte{}, content[:cut]...), make([]byte, fill)...)
			if fill > 0 && string(b) == string(content) {
				continue
			}
			w, ms, err := openWAL(writeState(t, b), "/q")
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if end, _ := ms.LastIndex(); end != 3 || w.end != int64(last) {
				t.Fatalf("cut at %d: the log ends at %d, the file at %d", cut, end, w.end)
			}
			if err := w.save(nil, []*pb.Entry{testEntry(4, "another")}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Damage with whole frames behind it is no torn end: what this member has promised is not known, so it must not vote.
func TestStateFileWithDamageInTheMiddle(t *testing.T) {
	content, last := stateFile(t)
	for at := range last {
		b := append([]byte{}, content...)
		b[at] ^= 0x40
		if _, _, err := openWAL(writeState(t, b), "/q"); err == nil {
			t.Fatalf("damage at byte %d was not seen", at)
		}
	}
}

func testNode(t *testing.T, f vfs.FS, sent *[]*pb.Message) *Node {
	t.Helper()
	n, err := OpenNode(NodeOptions{Self: testMember(), FS: f, Dir: "/q", Logger: slog.New(slog.DiscardHandler),
		Send: func(_ Member, m *pb.Message) { *sent = append(*sent, m) }, Apply: func(Batch) error { return nil }, CatchUp: func(int64) error { return nil },
		Sync: func() error { return nil }, Lead: func([]Member) ([]byte, error) { return batchOf(0, true), nil }, Active: func(int32) {}, Passive: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// A member whose state is gone, though its directory has kept its name, gives no vote and does not go on as if nothing had been.
func TestLostState(t *testing.T) {
	f := vfs.NewMem()
	if err := f.MkdirAll("/q", 0o755); err != nil {
		t.Fatal(err)
	}
	var sent []*pb.Message
	n := testNode(t, f, &sent)
	from := Member{Node: 2, Dir: [16]byte{2}}
	message := func(kind pb.MessageType, commit uint64) *pb.Message {
		to, who, term, index, logTerm := testMember().ID(), from.ID(), uint64(7), uint64(900), uint64(6)
		return &pb.Message{Type: &kind, To: &to, From: &who, Term: &term, Index: &index, LogTerm: &logTerm, Commit: &commit}
	}
	for _, kind := range []pb.MessageType{pb.MessageType_MsgPreVote, pb.MessageType_MsgVote} {
		n.Step(from, message(kind, 0))
		if err := n.Process(); err != nil {
			t.Fatal(err)
		}
	}
	if len(sent) > 0 || Exists(f, "/q") {
		t.Fatalf("it answered a candidate: %v", sent)
	}
	n.Step(from, message(pb.MessageType_MsgHeartbeat, 850))
	if err := n.Process(); err == nil || !strings.Contains(err.Error(), "join anew") {
		t.Fatalf("it went on: %v", err)
	}
}

// A quorum that begins with a log of before never uses an epoch of before again.
func TestEpochsGoOn(t *testing.T) {
	f := vfs.NewMem()
	if err := f.MkdirAll("/q", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(f, "/q", testMember(), 40, 12); err != nil {
		t.Fatal(err)
	}
	var sent []*pb.Message
	n := testNode(t, f, &sent)
	n.Campaign()
	if err := n.Process(); err != nil {
		t.Fatal(err)
	}
	if node, epoch := n.Leader(); node != 1 || epoch <= 12 || n.Next() != 41 || !n.active {
		t.Fatalf("node %d leads in epoch %d, the log ends at %d", node, epoch, n.Next())
	}
}

func FuzzStateFile(f *testing.F) {
	f.Add([]byte(walMagic))
	f.Add([]byte(walMagic + "\x00\x00\x00\x05\x00\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, _, err := openWAL(writeState(t, b), "/q"); err == nil && w.end > int64(len(b)) {
			t.Fatalf("the file ends at %d of %d", w.end, len(b))
		}
	})
}
