package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lineMax bounds one line of input, in bytes.
const lineMax = 64 << 20

type produceFlags struct {
	key, keyDelimiter, delimiter, codec, acks, file string
	headers                                         []string
	partition                                       int32
	tombstone, json, quiet                          bool
}

func (c *command) produce() *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use: "produce TOPIC [VALUE...]", Short: "Write records: the values given, else one a line from standard input",
		Args:    cobra.MinimumNArgs(1),
		Example: "  echo hello | ottla produce greetings\n  ottla produce greetings hello world\n  ottla produce flights -K '\\t' -z zstd < flights.tsv",
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.key, "key", "k", "", "key of every record")
	fl.StringVarP(&f.keyDelimiter, "key-delimiter", "K", "", "what stands between key and value in a line")
	fl.StringVarP(&f.delimiter, "delimiter", "D", "\\n", "what ends a record of the input")
	fl.StringVarP(&f.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	fl.StringVar(&f.acks, "acks", "all", "all, 1 or 0")
	fl.StringVarP(&f.file, "file", "f", "-", "read from this file")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "header, name=value (repeatable)")
	fl.Int32VarP(&f.partition, "partition", "p", -1, "partition; -1: by key, or spread")
	fl.BoolVar(&f.tombstone, "tombstone", false, "null values: one record per --key or line")
	fl.BoolVar(&f.json, "json", false, "lines are records in JSON, as consume -o json prints them")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing at the end")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.runProduce(cmd.Context(), &f, args[0], args[1:])
	}
	return cmd
}

func (f *produceFlags) options() ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	codec, ok := codecs[f.codec]
	if !ok {
		return nil, fmt.Errorf("--compression %q is not known; there are none, gzip, snappy, lz4 and zstd", f.codec)
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(1 << 20), kgo.MaxBufferedRecords(100_000), kgo.RecordPartitioner(partitioner(f.partition))}
	switch f.acks {
	case "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, fmt.Errorf("--acks %q is not known; there are all, 1 and 0", f.acks)
	}
	return opts, nil
}

// partitioner sends records that name a partition there, the others by key or spread.
func partitioner(all int32) kgo.Partitioner {
	if all >= 0 {
		return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(*kgo.Record, int) int { return int(all) }
		})
	}
	return namingPartitioner{kgo.UniformBytesPartitioner(64<<10, true, true, nil)}
}

// namingPartitioner sends the records that name a partition there.
type namingPartitioner struct{ spread kgo.Partitioner }

func (p namingPartitioner) ForTopic(topic string) kgo.TopicPartitioner {
	inner := p.spread.ForTopic(topic)
	backup, ok := inner.(kgo.TopicBackupPartitioner)
	if !ok {
		return inner
	}
	return namingTopicPartitioner{backup}
}

type namingTopicPartitioner struct{ kgo.TopicBackupPartitioner }

func (p namingTopicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || p.TopicBackupPartitioner.RequiresConsistency(r)
}

func (p namingTopicPartitioner) PartitionByBackup(r *kgo.Record, n int, backup kgo.TopicBackupIter) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return p.TopicBackupPartitioner.PartitionByBackup(r, n, backup)
}

func (c *command) runProduce(ctx context.Context, f *produceFlags, topic string, values []string) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	in, closeInput, err := f.input(c.env.Stdin)
	if err != nil {
		return err
	}
	defer closeInput()
	cl, err := c.client(ctx, append(opts, kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic(topic))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var acked, size atomic.Int64
	ends := newEnds()
	send := func(r *kgo.Record) {
		cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				cancel(produceError(r, err))
				return
			}
			acked.Add(1)
			size.Add(int64(len(r.Key) + len(r.Value)))
			ends.note(r.Partition, r.Offset)
		})
	}
	err = f.each(in, values, func(r *kgo.Record) error {
		r.Topic = topic
		send(r)
		return ctx.Err()
	})
	flushErr := cl.Flush(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("%w (%s acknowledged before)", cause, count(acked.Load(), "record"))
	}
	if err := errors.Join(err, flushErr); err != nil || f.quiet {
		return err
	}
	if c.json() {
		return c.printJSON(map[string]any{"topic": topic, "records": acked.Load(), "bytes": size.Load(), "last_offsets": ends.sorted()})
	}
	_, err = fmt.Fprintf(c.env.Stderr, "%s, %d bytes acknowledged by %s (%s)\n", count(acked.Load(), "record"), size.Load(), topic, ends)
	return err
}

// input is where records come from when none are given as arguments.
func (f *produceFlags) input(stdin io.Reader) (io.Reader, func(), error) {
	if f.file == "-" {
		return stdin, func() {}, nil
	}
	file, err := os.Open(f.file)
	if err != nil {
		return nil, nil, fmt.Errorf("--file: %w", err)
	}
	return file, func() { _ = file.Close() }, nil
}

// produceError says what became of a record.
func produceError(r *kgo.Record, err error) error {
	switch {
	case errors.Is(err, kerr.InvalidTopicException):
		return fmt.Errorf("%q is no name for a topic: letters, digits, '.', '_' and '-' make one, 249 at most", r.Topic)
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return topicError(r.Topic, err, "")
	case strings.Contains(err.Error(), "invalid record partitioning choice"):
		return fmt.Errorf("topic %s has no such partition: %w", r.Topic, err)
	case errors.Is(err, kerr.KafkaStorageError), errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("record to %s was not acknowledged in time: %w; the broker's log says why (a full disk?)", r.Topic, err)
	}
	return fmt.Errorf("record to %s: %w", r.Topic, err)
}

func (f *produceFlags) each(in io.Reader, values []string, emit func(*kgo.Record) error) error {
	headers, err := f.recordHeaders()
	if err != nil {
		return err
	}
	one := func(line []byte) error {
		if f.json {
			r, err := parseJSONRecord(line)
			if err != nil {
				return err
			}
			r.Headers = append(r.Headers, headers...)
			return emit(r)
		}
		return emit(f.record(line, headers))
	}
	if len(values) > 0 || f.tombstone && f.key != "" {
		for _, v := range values {
			if err := one([]byte(v)); err != nil {
				return err
			}
		}
		if len(values) == 0 {
			return one(nil)
		}
		return nil
	}
	sep := []byte(unescape(f.delimiter))
	scan := bufio.NewScanner(in)
	scan.Buffer(make([]byte, 64<<10), lineMax)
	scan.Split(splitOn(sep))
	for n := 1; scan.Scan(); n++ {
		if err := one(bytes.Clone(scan.Bytes())); err != nil {
			return fmt.Errorf("record %d of the input: %w", n, err)
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("reading the input (a record may have at most %d bytes): %w", lineMax, err)
	}
	return nil
}

func (f *produceFlags) recordHeaders() ([]kgo.RecordHeader, error) {
	var hs []kgo.RecordHeader
	for _, h := range f.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return nil, fmt.Errorf("header %q is not of the form name=value", h)
		}
		hs = append(hs, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return hs, nil
}

func (f *produceFlags) record(line []byte, headers []kgo.RecordHeader) *kgo.Record {
	r := &kgo.Record{Value: line, Headers: headers, Partition: -1}
	if r.Value == nil {
		r.Value = []byte{}
	}
	if f.key != "" {
		r.Key = []byte(f.key)
	}
	if f.keyDelimiter != "" {
		if k, v, ok := bytes.Cut(line, []byte(unescape(f.keyDelimiter))); ok {
			r.Key, r.Value = k, v
		}
	}
	if f.tombstone {
		if r.Key == nil {
			r.Key = line
		}
		r.Value = nil
	}
	return r
}

func unescape(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\0`, "\x00").Replace(s)
}

// splitOn splits at sep; a last piece without it counts, an empty last one does not.
func splitOn(sep []byte) bufio.SplitFunc {
	return func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, sep); i >= 0 {
			return i + len(sep), data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	}
}
