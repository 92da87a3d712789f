package interop

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shareState is a group's state by the broker.
func shareState(t *testing.T, cl *kgo.Client, group string) (state string, members int) {
	t.Helper()
	req := kmsg.NewPtrShareGroupDescribeRequest()
	req.GroupIDs = []string{group}
	resp, err := req.RequestWith(patience(t, 10*time.Second), cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Groups[0].GroupState, len(resp.Groups[0].Members)
}

// consumeShare accepts n records as a member of a share group.
func consumeShare(t *testing.T, member *kgo.Client, n int) {
	t.Helper()
	ctx := patience(t, time.Minute)
	for got := 0; got < n; {
		fetches := member.PollFetches(ctx)
		if err := fetches.Err(); err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			t.Fatalf("%d of %d records: %v", got, n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			r.Ack(kgo.AckAccept)
			got++
		})
	}
	if err := member.FlushAcks(ctx); err != nil {
		t.Fatal(err)
	}
}

// Kafka's own tool and ours see a share group, move where it reads from when it has stopped, and delete it; records that were
// accepted come again only where the group was moved back.
func TestShareTools(t *testing.T) {
	const command = toolsPackage + "consumer.group.ShareGroupCommand"
	in, id := createTopic(t, 1, nil), fresh("queue")
	cl := shareClient(t, broker(t))
	configureGroup(t, cl, id, map[string]string{"share.auto.offset.reset": "earliest"})
	var values []string
	for i := range 10 {
		values = append(values, fmt.Sprintf("v-%d", i))
	}
	produceLetters(t, cl, in, values)
	member := shareClient(t, broker(t), kgo.ConsumeTopics(in), kgo.ShareGroup(id))
	consumeShare(t, member, 10)

	bin, err := ottlaBinary()
	skipOrFail(t, err)
	ottla := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(bin, append(args, "-b", broker(t).Addr)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	wantLines(t, ottla("group", "describe", id), "^group "+id+"  type share  state Stable  members 1  lag 0", "^"+in+` +0 +10 +10 +0 `)
	wantLines(t, tool(t, command, "", "--list"), "^"+id)
	wantLines(t, tool(t, command, "", "--describe", "--group", id), "^"+id+" +"+in+` +0 .*10`)
	wantLines(t, tool(t, command, "", "--describe", "--group", id, "--state"), "^"+id+` .*Stable`)
	wantLines(t, tool(t, command, "", "--describe", "--group", id, "--members"), "^"+id+" .*"+in)
	wantLines(t, tool(t, toolsPackage+"GroupsCommand", "", "--list", "--share"), "^"+id+` +Share +share`)
	member.Close()
	eventually(t, 30*time.Second, func() error {
		if state, n := shareState(t, cl, id); state != "Empty" {
			return fmt.Errorf("the group is %s with %d members", state, n)
		}
		return nil
	})

	wantLines(t, tool(t, command, "", "--reset-offsets", "--group", id, "--topic", in, "--to-earliest", "--execute"), "^"+id+" +"+in+` +0 +0`)
	again := shareClient(t, broker(t), kgo.ConsumeTopics(in), kgo.ShareGroup(id))
	consumeShare(t, again, 10)
	again.Close()
	eventually(t, 30*time.Second, func() error {
		if state, n := shareState(t, cl, id); state != "Empty" {
			return fmt.Errorf("the group is %s with %d members", state, n)
		}
		return nil
	})
	wantLines(t, ottla("group", "seek", id, "--to", "4"), "^"+in+" +0 +4")
	wantLines(t, ottla("group", "describe", id), "^"+in+` +0 +4 +10 +6 `)
	wantLines(t, tool(t, command, "", "--delete-offsets", "--group", id, "--topic", in), in)
	tool(t, command, "", "--delete", "--group", id)
	if left := tool(t, command, "", "--list"); containsAny(left, id) {
		t.Fatalf("the group is still listed:\n%s", left)
	}
}

// Kafka's performance tool for share consumers reads what there is.
func TestShareConsumerPerformance(t *testing.T) {
	in, id := createTopic(t, 2, nil), fresh("queue")
	cl := shareClient(t, broker(t))
	configureGroup(t, cl, id, map[string]string{"share.auto.offset.reset": "earliest"})
	var values []string
	for i := range 2000 {
		values = append(values, fmt.Sprintf("v-%d", i))
	}
	produceLetters(t, cl, in, values)
	out := tool(t, toolsPackage+"ShareConsumerPerformance", "", "--topic", in, "--num-records", "2000", "--group", id, "--timeout", "30000")
	wantLines(t, out, `, 2000, `)
}
