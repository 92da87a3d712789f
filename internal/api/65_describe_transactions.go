package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// DescribeTransactions: v0. The state of transactional ids (KIP-664).

func describeTransactions(c *Call, q *kmsg.DescribeTransactionsRequest) {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	g := newGather(len(q.TransactionalIDs), func(all []kmsg.DescribeTransactionsResponseTransactionState) {
		resp.TransactionStates = all
		c.Reply(resp)
	})
	for i, id := range q.TransactionalIDs {
		txnRead(c, "describe-transaction", id, func(s *txn.Shard) (kmsg.DescribeTransactionsResponseTransactionState, error) {
			out := kmsg.NewDescribeTransactionsResponseTransactionState()
			t := s.Get(id)
			if t == nil {
				return out, wire.Errorf(kerr.TransactionalIDNotFound, "transactional id %q is not known", id)
			}
			out.State, out.TimeoutMillis, out.StartTimestamp, out.ProducerID, out.ProducerEpoch = t.State.String(), t.TimeoutMs, t.StartedMs, t.ProducerID, t.Epoch
			for _, p := range t.Sorted() {
				n := len(out.Topics)
				if n == 0 || out.Topics[n-1].Topic != p.Topic {
					rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
					rt.Topic = p.Topic
					out.Topics = append(out.Topics, rt)
					n++
				}
				out.Topics[n-1].Partitions = append(out.Topics[n-1].Partitions, p.Partition)
			}
			return out, nil
		}, func(out kmsg.DescribeTransactionsResponseTransactionState, err error) {
			if err != nil {
				out = kmsg.NewDescribeTransactionsResponseTransactionState()
				out.ErrorCode = wire.CodeOf(err)
			}
			out.TransactionalID = id
			g.put(i, out)
		})
	}
}
