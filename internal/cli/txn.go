package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *command) txn() *cobra.Command {
	cmd := &cobra.Command{Use: "txn", Short: "Look at transactions, and end one that hangs"}
	cmd.AddCommand(c.txnList(), c.txnDescribe(), c.txnWhy(), c.txnAbort())
	return cmd
}

type txnRow struct {
	ID         string  `json:"transactional_id"`
	State      string  `json:"state"`
	ProducerID int64   `json:"producer_id"`
	Epoch      int16   `json:"producer_epoch"`
	TimeoutMs  int32   `json:"timeout_ms"`
	Since      *string `json:"since,omitempty"`
	Partitions int     `json:"partitions"`
	Error      string  `json:"error,omitempty"`
}

func rowOf(d kadm.DescribedTransaction) txnRow {
	r := txnRow{ID: d.TxnID, State: d.State, ProducerID: d.ProducerID, Epoch: d.ProducerEpoch, TimeoutMs: d.TimeoutMillis}
	for _, ps := range d.Topics {
		r.Partitions += len(ps)
	}
	if d.StartTimestamp >= 0 && d.State == "Ongoing" {
		since := time.UnixMilli(d.StartTimestamp).UTC().Format(time.RFC3339)
		r.Since = &since
	}
	if d.Err != nil {
		r.Error = d.Err.Error()
	}
	return r
}

func (c *command) txnRows(rows []txnRow) error {
	if c.json() {
		return c.printJSON(rows)
	}
	return c.table("TRANSACTIONAL_ID STATE PRODUCER EPOCH PARTITIONS SINCE", func(out func(...any)) {
		for _, r := range rows {
			since := "-"
			if r.Since != nil {
				since = *r.Since
			}
			out(r.ID, r.State, r.ProducerID, r.Epoch, r.Partitions, since)
		}
	})
}

func (c *command) txnList() *cobra.Command {
	var states []string
	cmd := &cobra.Command{Use: "list", Short: "List transactional ids and where they stand", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			listed, err := adm.ListTransactions(ctx, nil, states)
			if err != nil {
				return err
			}
			rows := []txnRow{}
			if ids := listed.TransactionalIDs(); len(ids) > 0 {
				all, err := adm.DescribeTransactions(ctx, ids...)
				if err != nil {
					return err
				}
				for _, d := range all.Sorted() {
					rows = append(rows, rowOf(d))
				}
			}
			return c.txnRows(rows)
		})
	}}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only these: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort")
	return cmd
}

func (c *command) txnDescribe() *cobra.Command {
	return &cobra.Command{Use: "describe ID...", Short: "Show transactional ids and the partitions of their transactions", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, ids []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			all, err := adm.DescribeTransactions(ctx, ids...)
			if err != nil {
				return err
			}
			type whole struct {
				txnRow
				Topics map[string][]int32 `json:"topics,omitempty"`
			}
			var rows []whole
			for _, d := range all.Sorted() {
				if errors.Is(d.Err, kerr.TransactionalIDNotFound) {
					return fmt.Errorf("transactional id %q is not known; `ottla txn list` shows those that are", d.TxnID)
				}
				w := whole{txnRow: rowOf(d), Topics: map[string][]int32{}}
				for t, ps := range d.Topics {
					for p := range ps {
						w.Topics[t] = append(w.Topics[t], p)
					}
					slices.Sort(w.Topics[t])
				}
				rows = append(rows, w)
			}
			if c.json() {
				return c.printJSON(rows)
			}
			for _, w := range rows {
				if err := c.txnRows([]txnRow{w.txnRow}); err != nil {
					return err
				}
				for t, ps := range w.Topics {
					fmt.Fprintf(c.env.Stdout, "  %s %v\n", t, ps)
				}
			}
			return nil
		})
	}}
}

type place struct {
	Topic     string
	Partition int32
}

// holder is who holds the last stable offset of a partition back.
type holder struct {
	Topic           string `json:"topic"`
	Partition       int32  `json:"partition"`
	LastStable      int64  `json:"last_stable_offset"`
	End             int64  `json:"end_offset"`
	ProducerID      int64  `json:"producer_id"`
	Epoch           int16  `json:"producer_epoch"`
	TransactionalID string `json:"transactional_id,omitempty"`
	State           string `json:"state,omitempty"`
	Why             string `json:"why"`
}

func (c *command) txnWhy() *cobra.Command {
	return &cobra.Command{Use: "why TOPIC...", Short: "Say who holds the last stable offset back, so that readers of committed records wait", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, topics []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			holders, err := holdersOf(ctx, adm, topics)
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(holders)
			}
			if len(holders) == 0 {
				fmt.Fprintln(c.env.Stdout, "nobody: no transaction is open in any partition")
				return nil
			}
			for _, h := range holders {
				fmt.Fprintf(c.env.Stdout, "%s-%d: readers of committed records stop at offset %d of %d: %s\n", h.Topic, h.Partition, h.LastStable, h.End, h.Why)
			}
			return nil
		})
	}}
}

func holdersOf(ctx context.Context, adm *kadm.Client, topics []string) ([]holder, error) {
	meta, err := adm.Metadata(ctx, topics...)
	if err != nil {
		return nil, err
	}
	set := kadm.TopicsSet{}
	for _, t := range meta.Topics.Sorted() {
		if t.Err != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Topic, t.Err)
		}
		set.Add(t.Topic, t.Partitions.Numbers()...)
	}
	producers, err := adm.DescribeProducers(ctx, set)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	first := map[place]kadm.DescribedProducer{}
	ids := map[int64]bool{}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		tp := place{p.Topic, p.Partition}
		if had, ok := first[tp]; p.CurrentTxnStartOffset >= 0 && (!ok || p.CurrentTxnStartOffset < had.CurrentTxnStartOffset) {
			first[tp] = p
		}
	})
	for _, p := range first {
		ids[p.ProducerID] = true
	}
	owners, err := ownersOf(ctx, adm, ids)
	if err != nil {
		return nil, err
	}
	out := []holder{}
	for tp, p := range first {
		end, _ := ends.Lookup(tp.Topic, tp.Partition)
		h := holder{Topic: tp.Topic, Partition: tp.Partition, LastStable: p.CurrentTxnStartOffset, End: end.Offset, ProducerID: p.ProducerID, Epoch: p.ProducerEpoch}
		d, ok := owners[p.ProducerID]
		switch {
		case !ok:
			h.Why = fmt.Sprintf("a transaction of producer %d, epoch %d, that no coordinator knows; it hangs until a marker ends it", p.ProducerID, p.ProducerEpoch)
		case d.State == "Ongoing":
			h.TransactionalID, h.State = d.TxnID, d.State
			began := time.UnixMilli(d.StartTimestamp).UTC()
			h.Why = fmt.Sprintf("transaction of %q, producer %d, open since %s; it is aborted at %s unless it ends before (`ottla txn abort %s` ends it now)", d.TxnID, p.ProducerID,
				began.Format(time.RFC3339), began.Add(time.Duration(d.TimeoutMillis)*time.Millisecond).Format(time.RFC3339), d.TxnID)
		default:
			h.TransactionalID, h.State = d.TxnID, d.State
			h.Why = fmt.Sprintf("transaction of %q, producer %d, is in state %s: its markers are being written", d.TxnID, p.ProducerID, d.State)
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b holder) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

// ownersOf finds the transactional ids of producers.
func ownersOf(ctx context.Context, adm *kadm.Client, ids map[int64]bool) (map[int64]kadm.DescribedTransaction, error) {
	out := map[int64]kadm.DescribedTransaction{}
	if len(ids) == 0 {
		return out, nil
	}
	var filter []int64
	for id := range ids {
		filter = append(filter, id)
	}
	listed, err := adm.ListTransactions(ctx, filter, nil)
	if err != nil || len(listed) == 0 {
		return out, err
	}
	all, err := adm.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		out[d.ProducerID] = d
	}
	return out, nil
}

func (c *command) txnAbort() *cobra.Command {
	return &cobra.Command{Use: "abort ID", Short: "Abort the open transaction of a transactional id and fence its producer", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		cl, err := c.client(ctx)
		if err != nil {
			return err
		}
		defer cl.Close()
		all, err := kadm.NewClient(cl).DescribeTransactions(ctx, args[0])
		if err != nil {
			return err
		}
		d := all[args[0]]
		if errors.Is(d.Err, kerr.TransactionalIDNotFound) {
			return fmt.Errorf("transactional id %q is not known; `ottla txn list` shows those that are", args[0])
		}
		if d.State != "Ongoing" {
			return fmt.Errorf("transactional id %q has no open transaction: it is in state %s", args[0], d.State)
		}
		// Taking the id over is what ends the transaction of whoever has it now.
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &args[0], d.TimeoutMillis, -1, -1
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil && !errors.Is(err, kerr.ConcurrentTransactions) { // which says that it has begun
			return fmt.Errorf("abort the transaction of %q: %w", args[0], err)
		}
		fmt.Fprintf(c.env.Stdout, "the transaction of %q is aborted, and producer %d with epoch %d is fenced\n", args[0], d.ProducerID, d.ProducerEpoch)
		return nil
	}}
}
