package api

import (
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/txn"
)

// ListTransactions: v0-2. The transactional ids that this broker coordinates, filtered by state, producer, age (v1) and a regular
// expression over the id (v2, KIP-1152; RE2).

func listTransactions(c *Call, q *kmsg.ListTransactionsRequest) {
	resp := kmsg.NewPtrListTransactionsResponse()
	for _, s := range q.StateFilters {
		if !txn.KnownState(s) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	var pattern *regexp.Regexp
	if c.Version >= 2 && q.TransactionalIDPattern != nil && *q.TransactionalIDPattern != "" {
		var err error
		if pattern, err = regexp.Compile("^(?:" + *q.TransactionalIDPattern + ")$"); err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			c.Reply(resp)
			return
		}
	}
	wanted := func(t *txn.Txn, now time.Time) bool {
		age := now.UnixMilli() - t.StartedMs
		return (len(q.StateFilters) == 0 || slices.Contains(q.StateFilters, t.State.String())) && (len(q.ProducerIDFilters) == 0 || slices.Contains(q.ProducerIDFilters, t.ProducerID)) &&
			(c.Version < 1 || q.DurationFilterMillis < 0 || t.StartedMs >= 0 && age >= q.DurationFilterMillis) && (pattern == nil || pattern.MatchString(t.ID))
	}
	parts := c.Txns.Partitions()
	g := newGather(len(parts), func(all [][]kmsg.ListTransactionsResponseTransactionState) {
		for _, part := range all {
			resp.TransactionStates = append(resp.TransactionStates, part...)
		}
		c.Reply(resp)
	})
	for i, p := range parts {
		coordinator.Read(c.Txns, p.Partition, "list-transactions", func(s *txn.Shard, now time.Time) (out []kmsg.ListTransactionsResponseTransactionState, _ error) {
			for _, t := range s.All() {
				if wanted(t, now) {
					st := kmsg.NewListTransactionsResponseTransactionState()
					st.TransactionalID, st.ProducerID, st.TransactionState = t.ID, t.ProducerID, t.State.String()
					out = append(out, st)
				}
			}
			return out, nil
		}, func(out []kmsg.ListTransactionsResponseTransactionState, err error) {
			if err != nil {
				out = nil // a partition that is being loaded or has gone to another broker
			}
			g.put(i, out)
		})
	}
}
