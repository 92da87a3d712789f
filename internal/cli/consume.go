package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeFlags struct {
	outputs    []string // -o: an offset, or an output format
	format     string
	group      string
	count      int64
	tail       int64
	partitions []int32
	exit       bool
	committed  bool
}

func (c *command) consume() *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use: "consume TOPIC...", Short: "Read records and print them, from the start and then as they come", Args: cobra.MinimumNArgs(1),
		Example: "  ottla consume greetings\n  ottla consume flights -o end -f '%t %p %o %k: %s\\n'\n  ottla consume flights -o @2026-11-01T00:00:00Z -c 10 -o json\n  ottla consume flights --tail 5",
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.outputs, "offset", "o", nil, "where to begin: start, end, N (offset), -N (N before the end), @time (ms, RFC 3339, or -1h); or an output: json, text")
	fl.StringVarP(&f.format, "format", "f", `%s\n`, "what to print of a record: %s value %S its size %k key %K its size %t topic %p partition %o offset %T timestamp %h headers")
	fl.StringVarP(&f.group, "group", "g", "", "consume as a member of this group and commit what was printed")
	fl.Int64VarP(&f.count, "count", "c", 0, "end after so many records; 0: do not end")
	fl.Int64Var(&f.tail, "tail", 0, "begin so many records before the end of each partition")
	fl.Int32SliceVarP(&f.partitions, "partition", "p", nil, "only these partitions")
	fl.BoolVarP(&f.exit, "exit", "e", false, "end at the end of the topic as it was at the start")
	fl.BoolVar(&f.committed, "read-committed", false, "leave out records of transactions that are open or were aborted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.runConsume(cmd.Context(), &f, args)
	}
	return cmd
}

// offsetSpec is where to begin in a partition.
type offsetSpec struct {
	kind string // start, end, at, before, time
	n    int64
}

func parseOffset(s string, now time.Time) (offsetSpec, error) {
	bad := fmt.Errorf("offset %q is not start, end, N, -N or @time (milliseconds, RFC 3339, or -1h for an hour ago)", s)
	switch {
	case s == "start" || s == "beginning" || s == "earliest":
		return offsetSpec{kind: "start"}, nil
	case s == "end" || s == "latest":
		return offsetSpec{kind: "end"}, nil
	case strings.HasPrefix(s, "@"):
		t := s[1:]
		if ms, err := strconv.ParseInt(t, 10, 64); err == nil && ms >= 0 {
			return offsetSpec{"time", ms}, nil
		}
		if d, err := time.ParseDuration(t); err == nil && d <= 0 {
			return offsetSpec{"time", now.Add(d).UnixMilli()}, nil
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
			if at, err := time.Parse(layout, t); err == nil {
				return offsetSpec{"time", at.UnixMilli()}, nil
			}
		}
		return offsetSpec{}, bad
	default:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return offsetSpec{}, bad
		}
		if strings.HasPrefix(s, "-") {
			return offsetSpec{"before", -n}, nil
		}
		return offsetSpec{"at", n}, nil
	}
}

// resolve turns the specification into an offset for every partition of the topics.
func (o offsetSpec) resolve(ctx context.Context, adm *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	if err := starts.Error(); err != nil {
		return nil, err
	}
	if o.kind == "start" {
		return starts, nil
	}
	if o.kind == "time" {
		return adm.ListOffsetsAfterMilli(ctx, o.n, topics...)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends.Each(func(l kadm.ListedOffset) {
		first, _ := starts.Lookup(l.Topic, l.Partition)
		switch o.kind {
		case "at":
			l.Offset = min(max(o.n, first.Offset), l.Offset)
		case "before":
			l.Offset = max(l.Offset-o.n, first.Offset)
		}
		ends[l.Topic][l.Partition] = l
	})
	return ends, nil
}

func (f *consumeFlags) parse() (offsetSpec, string, error) {
	spec, output := offsetSpec{kind: "start"}, "text"
	for _, o := range f.outputs {
		if o == "json" || o == "text" {
			output = o
			continue
		}
		var err error
		if spec, err = parseOffset(o, time.Now()); err != nil {
			return spec, output, err
		}
	}
	switch {
	case f.count < 0:
		return spec, output, fmt.Errorf("--count %d: give a number of records, or 0 to go on", f.count)
	case f.tail < 0:
		return spec, output, fmt.Errorf("--tail %d: give a number of records", f.tail)
	case f.group != "" && len(f.partitions) > 0:
		return spec, output, errors.New("--partition and --group exclude each other: a group's partitions are given out by the broker")
	case f.group != "" && f.exit:
		return spec, output, errors.New("--exit and --group exclude each other: --count ends a member of a group")
	}
	if f.tail > 0 {
		spec = offsetSpec{"before", f.tail}
	}
	return spec, output, nil
}

func (c *command) runConsume(ctx context.Context, f *consumeFlags, topics []string) error {
	spec, output, err := f.parse()
	if err != nil {
		return err
	}
	c.output = "text"
	print, err := parseFormat(f.format)
	if err != nil {
		return err
	}
	if output == "json" {
		print = formatJSON
	}
	iso := kgo.ReadUncommitted()
	if f.committed {
		iso = kgo.ReadCommitted()
	}
	base := []kgo.Opt{kgo.FetchIsolationLevel(iso), kgo.FetchMaxWait(time.Second)}
	if f.group != "" {
		return c.consumeGroup(ctx, f, topics, spec, print, base)
	}
	cl, err := c.client(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	lctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := topicsExist(lctx, adm, topics); err != nil {
		return err
	}
	from, err := spec.resolve(lctx, adm, topics)
	if err != nil {
		return err
	}
	left, err := f.remaining(lctx, adm, topics, from)
	if err != nil {
		return err
	}
	assign := map[string]map[int32]kgo.Offset{}
	from.Each(func(l kadm.ListedOffset) {
		if !f.wants(l.Partition) {
			return
		}
		if assign[l.Topic] == nil {
			assign[l.Topic] = map[int32]kgo.Offset{}
		}
		assign[l.Topic][l.Partition] = kgo.NewOffset().At(l.Offset)
	})
	for _, t := range topics {
		if len(assign[t]) == 0 {
			return fmt.Errorf("topic %s has none of the partitions %v; `ottla topic describe %s` shows which it has", t, f.partitions, t)
		}
	}
	reader, err := c.client(ctx, append(base, kgo.ConsumePartitions(assign), kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer reader.Close()
	return c.print(ctx, f, reader, print, left)
}

func topicsExist(ctx context.Context, adm *kadm.Client, topics []string) error {
	got, err := adm.ListTopicsWithInternal(ctx, topics...)
	if err != nil {
		return err
	}
	for _, t := range got.Sorted() {
		if t.Err != nil {
			return topicError(t.Topic, t.Err, "")
		}
	}
	return nil
}

func (f *consumeFlags) wants(p int32) bool {
	if len(f.partitions) == 0 {
		return true
	}
	for _, want := range f.partitions {
		if want == p {
			return true
		}
	}
	return false
}

type topicPartition struct {
	topic string
	p     int32
}

// remaining is, with --exit, the end of each partition that has records to come; nil without.
func (f *consumeFlags) remaining(ctx context.Context, adm *kadm.Client, topics []string, from kadm.ListedOffsets) (map[topicPartition]int64, error) {
	if !f.exit {
		return nil, nil
	}
	list := adm.ListEndOffsets
	if f.committed {
		list = adm.ListCommittedOffsets
	}
	ends, err := list(ctx, topics...)
	if err != nil {
		return nil, err
	}
	left := map[topicPartition]int64{}
	ends.Each(func(l kadm.ListedOffset) {
		if start, ok := from.Lookup(l.Topic, l.Partition); ok && f.wants(l.Partition) && start.Offset < l.Offset {
			left[topicPartition{l.Topic, l.Partition}] = l.Offset
		}
	})
	return left, nil
}

// print polls and prints until the count is reached, the remaining partitions are done or ctx ends.
func (c *command) print(ctx context.Context, f *consumeFlags, cl *kgo.Client, print formatter, left map[topicPartition]int64) error {
	out := bufio.NewWriterSize(c.env.Stdout, 64<<10)
	defer out.Flush()
	if left != nil && len(left) == 0 {
		return nil
	}
	var n int64
	var line []byte
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w", e.Topic, e.Partition, e.Err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if end, ok := left[topicPartition{r.Topic, r.Partition}]; left != nil && (!ok || r.Offset >= end) {
				continue
			}
			// Transaction markers are read only because one may be the last offset there is.
			if !r.Attrs.IsControl() {
				line = print(line[:0], r)
				if _, err := out.Write(line); err != nil {
					return err
				}
				if n++; f.count > 0 && n >= f.count {
					return out.Flush()
				}
			}
			if end, ok := left[topicPartition{r.Topic, r.Partition}]; ok && r.Offset >= end-1 {
				delete(left, topicPartition{r.Topic, r.Partition})
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if left != nil && len(left) == 0 {
			return nil
		}
	}
}

func (c *command) consumeGroup(ctx context.Context, f *consumeFlags, topics []string, spec offsetSpec, print formatter, base []kgo.Opt) error {
	reset := kgo.NewOffset().AtStart()
	switch spec.kind {
	case "end":
		reset = kgo.NewOffset().AtEnd()
	case "at":
		reset = kgo.NewOffset().At(spec.n)
	case "before":
		reset = kgo.NewOffset().AtEnd().Relative(-spec.n)
	case "time":
		reset = kgo.NewOffset().AfterMilli(spec.n)
	}
	cl, err := c.client(ctx, append(base, kgo.ConsumerGroup(f.group), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(reset),
		kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll())...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	out := bufio.NewWriterSize(c.env.Stdout, 64<<10)
	defer out.Flush()
	var n int64
	var line []byte
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w", e.Topic, e.Partition, e.Err)
		}
		for it := fetches.RecordIter(); !it.Done() && (f.count == 0 || n < f.count); n++ {
			r := it.Next()
			line = print(line[:0], r)
			if _, err := out.Write(line); err != nil {
				return err
			}
			cl.MarkCommitRecords(r)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if f.count > 0 && n >= f.count {
			break
		}
		cl.AllowRebalance()
	}
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := cl.CommitMarkedOffsets(cctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the last records were printed but not committed: %w", err)
	}
	return nil
}
