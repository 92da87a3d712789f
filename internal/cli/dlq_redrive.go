package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type redriveFlags struct {
	to          string
	group       string
	count       int
	dryRun      bool
	skipMissing bool
}

func (c *command) dlqRedrive() *cobra.Command {
	var f redriveFlags
	cmd := &cobra.Command{
		Use: "redrive TOPIC", Short: "Copy dead letters back to where they came from, and mark them as redriven", Args: cobra.ExactArgs(1),
		Long: "Copy the dead letters of a topic back to the topics they came from. A letter is marked as redriven (a committed offset of the group " + redriveMark +
			"TOPIC) once its copy is stored, never before; nothing is deleted. If this program stops in between, the next run may copy some letters a second time and loses none. " +
			"A letter without a copy of its record is made from the record itself, where that still is.",
		Example: "  ottla dlq redrive dlq.orders\n  ottla dlq redrive dlq.orders --to orders-retry\n  ottla dlq redrive dlq.orders --group billing --dry-run",
	}
	cmd.Flags().StringVar(&f.to, "to", "", "copy to this topic instead of the topics that the letters came from")
	cmd.Flags().StringVarP(&f.group, "group", "g", "", "only letters of this share group; such a redrive has a mark of its own")
	cmd.Flags().IntVarP(&f.count, "count", "c", 0, "end after so many letters; 0: do not end")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be copied, and copy nothing")
	cmd.Flags().BoolVar(&f.skipMissing, "skip-missing", false, "pass over letters whose record is gone and that hold no copy")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.redrive(cmd.Context(), &f, args[0]) }
	return cmd
}

// redriven counts what a redrive did.
type redriven struct {
	Copied  int  `json:"copied"`
	Skipped int  `json:"skipped"`
	DryRun  bool `json:"dry_run"`
}

// redriveBatch is how many letters are copied before they are marked.
const redriveBatch = 200

func (c *command) redrive(ctx context.Context, f *redriveFlags, topic string) error {
	cl, err := c.client(ctx, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	parts, err := letterParts(ctx, adm, topic)
	if err != nil {
		return err
	}
	r := &redrive{c: c, cl: cl, adm: adm, f: f, topic: topic, marks: newMarks(adm, topic, parts), next: map[int32]int64{}, sum: redriven{DryRun: f.dryRun}}
	err = c.letters(ctx, topic, parts, func(p letterPart) int64 { return p.mark }, func(l letter) (bool, error) {
		if f.group == "" || l.Group == f.group {
			done, err := r.marks.redriven(ctx, &l)
			if err == nil && !done {
				err = r.take(ctx, l)
			}
			if err != nil {
				return false, err
			}
		}
		r.next[l.Partition] = l.Offset + 1
		if len(r.batch) >= redriveBatch {
			if err := r.flush(ctx); err != nil {
				return false, err
			}
		}
		return f.count == 0 || r.sum.Copied+len(r.batch) < f.count, nil
	})
	// What was copied before the trouble stays copied, and is marked.
	if flushErr := r.flush(ctx); err == nil {
		err = flushErr
	}
	if err != nil {
		return fmt.Errorf("%w\n%d letters were copied before that; nothing was deleted, and another redrive goes on from there", err, r.sum.Copied)
	}
	if c.json() {
		return c.printJSON(r.sum)
	}
	verb := "copied"
	if f.dryRun {
		verb = "would be copied"
	}
	fmt.Fprintf(c.env.Stdout, "%d letters %s, %d passed over\n", r.sum.Copied, verb, r.sum.Skipped)
	return nil
}

// redrive is one run.
type redrive struct {
	c     *command
	cl    *kgo.Client
	adm   *kadm.Client
	f     *redriveFlags
	topic string
	marks *marks
	batch []*kgo.Record
	next  map[int32]int64 // by partition of the dead-letter topic: one past the last letter taken
	sum   redriven
	width map[string]int32 // partitions of the topics copied to
}

// take adds a letter's record to the batch.
func (r *redrive) take(ctx context.Context, l letter) error {
	rec := &kgo.Record{Topic: l.Topic, Partition: l.From, Key: l.rec.Key, Value: l.rec.Value, Headers: slices.Clone(l.headers)}
	if l.bare() {
		original, err := r.original(ctx, l)
		if errors.Is(err, errLetterGone) && r.f.skipMissing {
			r.sum.Skipped++
			return nil
		}
		if err != nil {
			return err
		}
		rec.Key, rec.Value, rec.Headers = original.Key, original.Value, original.Headers
	}
	if r.f.to != "" {
		rec.Topic = r.f.to
		n, err := r.partitions(ctx, r.f.to)
		if err != nil {
			return err
		}
		rec.Partition %= n
	}
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: redrivenFrom, Value: fmt.Appendf(nil, "%s-%d@%d", r.topic, l.Partition, l.Offset)})
	r.batch = append(r.batch, rec)
	return nil
}

func (r *redrive) partitions(ctx context.Context, topic string) (int32, error) {
	if n := r.width[topic]; n > 0 {
		return n, nil
	}
	d, err := r.adm.ListTopics(ctx, topic)
	if err == nil {
		err = d[topic].Err
	}
	if err != nil {
		return 0, topicError(topic, err, "")
	}
	if r.width == nil {
		r.width = map[string]int32{}
	}
	r.width[topic] = int32(len(d[topic].Partitions))
	return r.width[topic], nil
}

// original reads the record that a letter without a copy tells of.
func (r *redrive) original(ctx context.Context, l letter) (*kgo.Record, error) {
	gone := fmt.Errorf("%w: %s-%d@%d (letter %d@%d of %s); --skip-missing passes over such letters", errLetterGone, l.Topic, l.From, l.At, l.Partition, l.Offset, r.topic)
	ctx, cancel := context.WithTimeout(ctx, r.c.timeout)
	defer cancel()
	reader, err := r.c.client(ctx, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: {l.From: kgo.NewOffset().At(l.At)}}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil || len(fetches.Errors()) > 0 {
			return nil, gone
		}
		for it := fetches.RecordIter(); !it.Done(); {
			x := it.Next()
			if x.Offset == l.At {
				return x, nil
			}
			if x.Offset > l.At {
				return nil, gone
			}
		}
	}
}

// flush copies the batch and then marks what was taken, in this order.
func (r *redrive) flush(ctx context.Context) error {
	batch, next := r.batch, r.next
	r.batch, r.next = nil, map[int32]int64{}
	if r.f.dryRun {
		r.sum.Copied += len(batch)
		return nil
	}
	for _, res := range r.cl.ProduceSync(ctx, batch...) {
		if res.Err != nil {
			return fmt.Errorf("copying a letter to %s-%d: %w", res.Record.Topic, res.Record.Partition, res.Err)
		}
	}
	if len(next) == 0 {
		return nil
	}
	at := kadm.Offsets{}
	for p, o := range next {
		at.AddOffset(r.topic, p, o, -1)
	}
	got, err := r.adm.CommitOffsets(ctx, marksOf(r.topic, r.f.group), at)
	if err == nil {
		err = got.Error()
	}
	if err != nil {
		return fmt.Errorf("%d letters are copied and could not be marked (group %s), so that the next redrive copies them again: %w", len(batch), marksOf(r.topic, r.f.group), err)
	}
	r.sum.Copied += len(batch)
	return nil
}
