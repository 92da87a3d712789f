package cli

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	dlqEnable = "errors.deadletterqueue.group.enable" // topic config that makes a topic take dead letters
	dlqHeader = "__dlq.errors."                       // what a dead letter's own headers begin with
	// redriveMark begins the name of the group whose offsets say how far a dead-letter topic was redriven.
	redriveMark = "ottla.redrive."
	// redrivenFrom is the header that a redriven record carries.
	redrivenFrom = "ottla.redriven.from"
)

func (c *command) dlq() *cobra.Command {
	cmd := &cobra.Command{Use: "dlq", Short: "List, show and redrive the dead letters of share groups"}
	cmd.AddCommand(c.dlqList(), c.dlqShow(), c.dlqRedrive())
	return cmd
}

type dlqRow struct {
	Topic    string `json:"topic"`
	Letters  int64  `json:"letters"`
	Redriven int64  `json:"redriven"`
}

func (c *command) dlqList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the dead-letter topics, how many letters they hold and how many were redriven", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			rows, err := listDeadLetters(ctx, adm)
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(rows)
			}
			return c.table("TOPIC LETTERS REDRIVEN", func(out func(...any)) {
				for _, r := range rows {
					out(r.Topic, r.Letters, r.Redriven)
				}
			})
		})
	}}
}

func listDeadLetters(ctx context.Context, adm *kadm.Client) ([]dlqRow, error) {
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	rows := []dlqRow{}
	configs, err := adm.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil || len(topics) == 0 {
		return rows, err
	}
	for _, rc := range configs {
		for _, kv := range rc.Configs {
			if kv.Key != dlqEnable || kv.MaybeValue() != "true" {
				continue
			}
			parts, err := letterParts(ctx, adm, rc.Name)
			if err != nil {
				return nil, err
			}
			row := dlqRow{Topic: rc.Name}
			for _, p := range parts {
				row.Letters += p.end - p.start
				row.Redriven += p.mark - p.start
			}
			rows = append(rows, row)
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Topic < rows[j].Topic })
	return rows, nil
}

// letterPart is one partition of a dead-letter topic: its bounds and up to where it was redriven.
type letterPart struct{ start, mark, end int64 }

func letterParts(ctx context.Context, adm *kadm.Client, topic string) (map[int32]letterPart, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, topicError(topic, err, "")
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	done, err := readMarks(ctx, adm, topic, "")
	if err != nil {
		return nil, err
	}
	out := map[int32]letterPart{}
	ends.Each(func(e kadm.ListedOffset) {
		s, _ := starts.Lookup(topic, e.Partition)
		out[e.Partition] = letterPart{start: s.Offset, mark: min(max(s.Offset, done[e.Partition]), e.Offset), end: e.Offset}
	})
	return out, nil
}

// marksOf is the group whose offsets are the marks of a topic: of all its letters, or of one share group's.
func marksOf(topic, group string) string {
	if group == "" {
		return redriveMark + topic
	}
	return redriveMark + topic + "." + group
}

func readMarks(ctx context.Context, adm *kadm.Client, topic, group string) (map[int32]int64, error) {
	done, err := adm.FetchOffsets(ctx, marksOf(topic, group))
	if err != nil {
		return nil, fmt.Errorf("reading how far %s was redriven (offsets of group %s): %w", topic, marksOf(topic, group), err)
	}
	out := map[int32]int64{}
	done.Each(func(o kadm.OffsetResponse) {
		if o.Topic == topic {
			out[o.Partition] = o.At
		}
	})
	return out, nil
}

// marks tell of single letters whether they were redriven.
type marks struct {
	adm    *kadm.Client
	topic  string
	parts  map[int32]letterPart
	groups map[string]map[int32]int64 // marks of single share groups, read at first use
}

func (m *marks) redriven(ctx context.Context, l *letter) (bool, error) {
	if l.Offset < m.parts[l.Partition].mark {
		return true, nil
	}
	own, ok := m.groups[l.Group]
	if !ok {
		var err error
		if own, err = readMarks(ctx, m.adm, m.topic, l.Group); err != nil {
			return false, err
		}
		m.groups[l.Group] = own
	}
	return l.Offset < own[l.Partition], nil
}

func newMarks(adm *kadm.Client, topic string, parts map[int32]letterPart) *marks {
	return &marks{adm, topic, parts, map[string]map[int32]int64{}}
}

// letter is one dead letter.
type letter struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Topic     string            `json:"from_topic"`
	From      int32             `json:"from_partition"`
	At        int64             `json:"from_offset"`
	Group     string            `json:"group"`
	Count     string            `json:"deliveries"`
	Message   string            `json:"message"`
	Key       *string           `json:"key"`
	Value     *string           `json:"value"`
	Headers   map[string]string `json:"headers,omitempty"`
	Redriven  bool              `json:"redriven"`

	rec     *kgo.Record
	headers []kgo.RecordHeader // the record's own
}

// parseLetter reads a dead letter's headers (KIP-1191); the first of a name counts for the record's origin.
func parseLetter(r *kgo.Record) (letter, error) {
	l := letter{Partition: r.Partition, Offset: r.Offset, From: -1, At: -1, rec: r, Headers: map[string]string{}}
	seen := map[string]bool{}
	for _, h := range r.Headers {
		name, ours := strings.CutPrefix(h.Key, dlqHeader)
		if !ours || seen[name] {
			l.headers = append(l.headers, h)
			l.Headers[h.Key] = string(h.Value)
			continue
		}
		seen[name] = true
		switch name {
		case "topic":
			l.Topic = string(h.Value)
		case "partition":
			n, err := strconv.ParseInt(string(h.Value), 10, 32)
			if err != nil {
				return l, notALetter(r)
			}
			l.From = int32(n)
		case "offset":
			n, err := strconv.ParseInt(string(h.Value), 10, 64)
			if err != nil {
				return l, notALetter(r)
			}
			l.At = n
		case "group":
			l.Group = string(h.Value)
		case "delivery.count":
			l.Count = string(h.Value)
		case "message":
			l.Message = string(h.Value)
		}
	}
	if l.Topic == "" || l.From < 0 || l.At < 0 {
		return l, notALetter(r)
	}
	l.Key, l.Value = printable(r.Key), printable(r.Value)
	return l, nil
}

func notALetter(r *kgo.Record) error {
	return fmt.Errorf("offset %d of %s-%d is no dead letter: it does not say where it came from", r.Offset, r.Topic, r.Partition)
}

func printable(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// bare says that the letter holds no copy of its record, only where it was.
func (l *letter) bare() bool { return l.rec.Key == nil && l.rec.Value == nil && len(l.headers) == 0 }

func (c *command) dlqShow() *cobra.Command {
	var group string
	var count int
	var all bool
	cmd := &cobra.Command{Use: "show TOPIC", Short: "Show the dead letters of a topic: where they came from and why", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVarP(&group, "group", "g", "", "only letters of this share group")
	cmd.Flags().IntVarP(&count, "count", "c", 100, "end after so many letters; 0: do not end")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "redriven letters too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.withClient(cmd, func(ctx context.Context, cl *kgo.Client) error {
			adm := kadm.NewClient(cl)
			parts, err := letterParts(ctx, adm, args[0])
			if err != nil {
				return err
			}
			m := newMarks(adm, args[0], parts)
			from := func(p letterPart) int64 {
				if all {
					return p.start
				}
				return p.mark
			}
			letters := []letter{}
			err = c.letters(ctx, args[0], parts, from, func(l letter) (bool, error) {
				var err error
				if group != "" && l.Group != group {
					return true, nil
				}
				if l.Redriven, err = m.redriven(ctx, &l); err == nil && (all || !l.Redriven) {
					letters = append(letters, l)
				}
				return count == 0 || len(letters) < count, err
			})
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(letters)
			}
			return c.table("LETTER FROM GROUP DELIVERIES WHY KEY VALUE REDRIVEN", func(out func(...any)) {
				for _, l := range letters {
					out(fmt.Sprintf("%d@%d", l.Partition, l.Offset), fmt.Sprintf("%s-%d@%d", l.Topic, l.From, l.At), l.Group, l.Count, l.Message, short(l.Key), short(l.Value), l.Redriven)
				}
			})
		})
	}
	return cmd
}

// short is a text that fits a table.
func short(s *string) string {
	if s == nil {
		return "-"
	}
	r := []rune(strconv.Quote(*s))
	if len(r) > 40 {
		r = append(r[:39], '…')
	}
	return string(r)
}

// letters reads the dead letters of a topic, from each partition's beginning to its end as it was, until f has enough.
func (c *command) letters(ctx context.Context, topic string, parts map[int32]letterPart, from func(letterPart) int64, f func(letter) (bool, error)) error {
	assign, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p, x := range parts {
		if at := from(x); at < x.end {
			assign[p], left[p] = kgo.NewOffset().At(at), x.end
		}
	}
	if len(left) == 0 {
		return nil
	}
	reader, err := c.client(ctx, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: assign}), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer reader.Close()
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w", e.Topic, e.Partition, e.Err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			end, open := left[r.Partition]
			if !open || r.Offset >= end {
				continue
			}
			if r.Offset == end-1 {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				continue
			}
			l, err := parseLetter(r)
			if err != nil {
				return err
			}
			if more, err := f(l); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

var errLetterGone = errors.New("the record of a dead letter without a copy is gone")
