package interop

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// librdkafka's share consumer, by way of Python: every record is accepted by one member, released ones by another delivery.
func TestShareGroupOfRdkafkaMembers(t *testing.T) {
	args, env, err := pythonClient("share_member.py")()
	skipOrFail(t, err)
	b := shareBroker(t)
	cl := shareClient(t, b)
	needShareGroups(t, cl)
	const group, topic, n = "rdkafka", "rdkafka", 1000
	if _, err := kadm.NewClient(cl).CreateTopic(patience(t, 20*time.Second), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	configureGroup(t, cl, group, map[string]string{"share.auto.offset.reset": "earliest"})
	var values []string
	for i := range n {
		values = append(values, fmt.Sprintf("v-%d", i))
	}
	produceLetters(t, cl, topic, values)
	var mu sync.Mutex
	accepted, released := map[string]int{}, 0
	var trouble []string
	members := make([]io.Closer, 2)
	var all sync.WaitGroup
	for i := range members {
		cmd := exec.Command(args[0], append(args[1:], b.Addr, group, topic, fmt.Sprint(i))...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		members[i] = in
		all.Go(func() {
			for s := bufio.NewScanner(out); s.Scan(); {
				what, value, _ := strings.Cut(s.Text(), " ")
				mu.Lock()
				switch what {
				case "accept":
					accepted[value]++
				case "release":
					released++
				default:
					trouble = append(trouble, s.Text())
				}
				mu.Unlock()
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("a member ended with %v", err)
			}
		})
	}
	left := func() int { mu.Lock(); defer mu.Unlock(); return n - len(accepted) }
	for limit := time.Now().Add(time.Minute); left() > 0 && time.Now().Before(limit); {
		<-time.After(50 * time.Millisecond)
	}
	for _, m := range members {
		m.Close()
	}
	all.Wait()
	if left() > 0 {
		t.Errorf("%d of %d records were given to nobody", left(), n)
	}
	for v, times := range accepted {
		if times > 1 {
			t.Errorf("%s was accepted %d times", v, times)
		}
	}
	if released == 0 || len(trouble) > 0 {
		t.Errorf("%d released; %v", released, trouble)
	}
	t.Logf("%d accepted, %d released first", len(accepted), released)
}
