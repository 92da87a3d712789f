package log

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
)

// This file is the seam between the partition's log (append.go and its neighbours) and the commit thread of its disk
// (committer.go, journal.go).
//
// The way of an append. Log.Append writes the bytes into the segment file (page cache) and calls enqueue while it holds
// the log's mutex, so the order of enqueue calls of one log is the order of its offsets. The committer takes everything
// that waits, and per log either
//
//   - copies the batches into the shared journal, one write for all logs of the round, or
//   - calls Log.syncTo, which makes the segment files themselves durable (the direct path: large rounds, entries with
//     direct set, and every round while no journal file is free),
//
// and then calls Log.onDurable with the end of the log's last entry of the round. A log's entries of one round go all one
// way or all the other, and a round ends before the next begins for that log: what is durable is always a prefix.
//
// After a failed write or fsync the committer calls onError of its options once and answers every entry, now and later,
// with Log.onCommitError. It never tries again.

// commitEntry is one append that waits to become durable.
type commitEntry struct {
	log *Log
	// owner holds batches; the entry owns one reference, which the committer releases once it has taken the bytes (or
	// decided that it does not need them). nil only where batches is nil.
	owner *wire.Buffer
	// batches are the bytes as they stand in the segment file. nil where the entry can only go the direct way.
	batches []byte
	// size is the number of bytes appended, whether or not batches is there.
	size int
	// direct asks for the direct path: the journal must not hold these bytes, because bytes before them in the segment may
	// not be durable yet (a topic that left the page-cache mode), or because the caller gave no bytes.
	direct bool
	// segmentBase and pos say where the bytes stand: the segment's base offset and the file position of the first byte.
	segmentBase, pos int64
	// first is the first offset of the entry, end lies behind its last record.
	first int64
	end   OffsetMeta
}

// journalFrame is one entry read back from the journal.
type journalFrame struct {
	TopicPartition
	TopicID          [16]byte
	SegmentBase, Pos int64
	First, Next      int64  // offsets [First, Next)
	Payload          []byte // valid during the call only
}

// committer makes appends of the logs of one log dir durable. Methods are safe for concurrent use.
type committer interface {
	// replay hands every frame that a crash may have left only in the journal to apply, in the order written, without those
	// that a later truncate or drop took back: a frame of the same topic id and partition with Next > to is left out, wholly.
	// (Truncation is on batch boundaries and never inside an entry's batches; the log cuts what is left.) It is called
	// once, before start. A torn or never written tail ends the journal silently. The frames stay in the journal until
	// replayed is called.
	replay(apply func(f *journalFrame) error) error
	// replayed says that everything replay gave is durable in the segments now; the old journal files may be recycled.
	// Called once after replay, perhaps long after start. Until then the committer uses other files.
	replayed()
	// start allows enqueue. There need not be a goroutine while nothing waits.
	start()
	// enqueue hands one append over. Called with the log's mutex held: it must not block, do I/O, or call the log.
	enqueue(e commitEntry)
	// drain returns once everything enqueued for l before the call is durable, or gives the error that prevents it.
	drain(l *Log) error
	// truncate drains l, then makes durable that nothing of l that was written to the journal before comes back at or above
	// offset to (a marker; nothing to do where no frame of l is in the journal). The log enqueues nothing meanwhile.
	truncate(l *Log, to int64) error
	// drop is truncate to nothing at all, for a log whose directory is about to be deleted or moved to another disk.
	drop(l *Log) error
	// dropAll is drop of many logs, and of partitions that are not open, of which only the last run may have left anything. All
	// the markers share as few writes as they fit in.
	dropAll(open []*Log, closed []truncation) error
	// checkpointed says that the segment files of l are durable below upTo. The oldest journal file is recycled when it
	// holds nothing above that of any log.
	checkpointed(l *Log, upTo int64)
	// close drains everything and closes the journal. Where clean is true, all logs have been checkpointed to their ends.
	close() error
}

// committerOptions are what a committer is made of.
type committerOptions struct {
	FS                   vfs.FS
	Dir                  string // path of the log dir; the journal lives in Dir/.ottla-journal
	Clock                clock.Clock
	Logger               *slog.Logger
	Metrics              *commitMetrics
	JournalFiles         int
	JournalFileBytes     int64
	DirectThresholdBytes int
	// wantCheckpoint asks for the segment files of l to be made durable soon, because l holds the oldest journal file
	// back. It does not block; checkpointed is called when that is done. Asking again is cheap.
	wantCheckpoint func(l *Log)
	// onError is told the first failure; the whole dir goes offline.
	onError func(err error)
}

// commitMetrics are shared by the committers of a manager.
type commitMetrics struct {
	rounds       prometheus.Counter   // commit rounds
	entries      prometheus.Counter   // appends committed
	journalBytes prometheus.Counter   // payload bytes written to the journal
	directBytes  prometheus.Counter   // payload bytes made durable in their segments
	syncSeconds  prometheus.Histogram // time of one round, from taking the entries to telling the logs
}

func newCommitMetrics(reg prometheus.Registerer) *commitMetrics {
	m := &commitMetrics{
		rounds:       prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_log_commit_rounds_total", Help: "Commit rounds: each makes durable everything that waited."}),
		entries:      prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_log_commit_entries_total", Help: "Appends made durable."}),
		journalBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_log_journal_bytes_total", Help: "Bytes of batches made durable through the journal."}),
		directBytes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_log_direct_bytes_total", Help: "Bytes of batches made durable in their segment files."}),
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ottla_log_commit_seconds", Help: "Duration of one commit round.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)}),
	}
	if reg != nil {
		reg.MustRegister(m.rounds, m.entries, m.journalBytes, m.directBytes, m.syncSeconds)
	}
	return m
}

// What the committer may call on a log (all without any lock of the committer held):
//
//	syncTo(end OffsetMeta) error        make the segment files durable up to end (the direct path); blocks for the fsync
//	onDurable(end OffsetMeta)           everything below end is durable; ends come in order
//	onCommitError(err error)            nothing more will become durable
//	TopicPartition(), TopicID()         names for the journal frame
