package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// voters asks until the quorum has so many.
func voters(ctx context.Context, t *testing.T, cl *kgo.Client, want int) (leader int32, dirs map[int32][16]byte) {
	t.Helper()
	for {
		req := kmsg.NewPtrDescribeQuorumRequest()
		rt := kmsg.NewDescribeQuorumRequestTopic()
		rt.Topic = "__cluster_metadata"
		rt.Partitions = []kmsg.DescribeQuorumRequestTopicPartition{kmsg.NewDescribeQuorumRequestTopicPartition()}
		req.Topics = append(req.Topics, rt)
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		resp, err := req.RequestWith(one, cl)
		cancel()
		dirs = map[int32][16]byte{}
		if err == nil && resp.ErrorCode == 0 && len(resp.Topics) == 1 {
			p := resp.Topics[0].Partitions[0]
			for _, v := range p.CurrentVoters {
				dirs[v.ReplicaID] = v.ReplicaDirectoryID
			}
			if leader = p.LeaderID; len(dirs) == want {
				return leader, dirs
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("the voters are %v, not %d: %v", dirs, want, err)
		}
	}
}

// Three nodes become three voters by themselves. The leader is killed: another leads. The word of an operator takes the dead one's vote, and
// the two that remain go on; the dead one returns as no voter, and gets its vote back by itself.
func TestVoters(t *testing.T) {
	c := startTrio(t)
	ctx := within(t, 90*time.Second)
	var seeds []string
	for _, b := range c.brokers {
		seeds = append(seeds, b.addr)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	old, dirs := voters(ctx, t, cl, 3)
	remove := func(node int32, dir [16]byte) error {
		req := kmsg.NewPtrRemoveRaftVoterRequest()
		req.VoterID, req.VoterDirectoryID = node, dir
		for {
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			resp, err := req.RequestWith(one, cl)
			cancel()
			if err == nil {
				return kerr.ErrorForCode(resp.ErrorCode)
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	if err := remove(old, [16]byte{1}); err != kerr.VoterNotFound {
		t.Fatalf("a voter with another directory: %v", err)
	}
	dead := c.brokers[old-1]
	dead.kill()
	leader, _ := voters(ctx, t, cl, 3)
	for leader == old {
		leader, _ = voters(ctx, t, cl, 3)
	}
	if err := remove(old, dirs[old]); err != nil {
		t.Fatal(err)
	}
	voters(ctx, t, cl, 2)
	dead.start()
	voters(ctx, t, cl, 3)
}
