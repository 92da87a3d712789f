package interop

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// If this fails, Kafka's own command for transactions cannot look at ours or end them.
func TestTransactionsCommand(t *testing.T) {
	t.Parallel()
	broker(t)
	topic, id := createTopic(t, 1, nil), fresh("txn")
	ctx := patience(t, 2*time.Minute)
	cl := client(t, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic), kgo.TransactionTimeout(time.Minute))
	begin := func() {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("open")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(want []string, args ...string) {
		t.Helper()
		wantLines(t, tool(t, toolsPackage+"TransactionsCommand", "", args...), want...)
	}
	begin()
	ask([]string{id + ".*Ongoing"}, "list")
	ask([]string{id + ".*Ongoing.*" + topic + "-0"}, "describe", "--transactional-id", id)
	ask([]string{"ProducerId", "CurrentTransactionStartOffset"}, "describe-producers", "--topic", topic, "--partition", "0")
	ask(nil, "find-hanging", "--topic", topic, "--partition", "0")
	ask(nil, "forceTerminateTransaction", "--transactionalId", id)
	eventually(t, 10*time.Second, func() error {
		if out := tool(t, toolsPackage+"TransactionsCommand", "", "list"); !regexp.MustCompile(id + ".*(CompleteAbort|Empty)").MatchString(out) {
			return fmt.Errorf("not ended: %s", out)
		}
		return nil
	})
}

// If this fails, ottla txn does not say who holds readers back, or cannot end it.
func TestTxnCommand(t *testing.T) {
	t.Parallel()
	b := broker(t)
	bin, err := ottlaBinary()
	skipOrFail(t, err)
	topic, id := createTopic(t, 2, nil), fresh("txn")
	ctx := patience(t, 2*time.Minute)
	cl := client(t, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic), kgo.TransactionTimeout(time.Minute))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ottla := func(want string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(ctx, bin, append([]string{"-b", b.Addr, "txn"}, args...)...).CombinedOutput()
		if err != nil || !regexp.MustCompile(want).Match(out) {
			t.Errorf("%v lacks %s: %v\n%s", args, want, err, out)
		}
	}
	ottla(id+" +Ongoing", "list")
	ottla(`"topics": *\{\s*"`+topic, "describe", id, "-o", "json")
	ottla("stop at offset 0 of 1: transaction of \""+id+"\"", "why", topic)
	ottla("is aborted", "abort", id)
	eventually(t, 10*time.Second, func() error {
		out, err := exec.CommandContext(ctx, bin, "-b", b.Addr, "txn", "why", topic).CombinedOutput()
		if err == nil && !strings.HasPrefix(string(out), "nobody") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}
