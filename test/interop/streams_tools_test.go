package interop

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Kafka's own tools see a streams group, move its offsets when it has stopped, and delete it with its internal topics.
func TestStreamsTools(t *testing.T) {
	const command = toolsPackage + "streams.StreamsGroupCommand"
	in, out, id := createTopic(t, 2, nil), createTopic(t, 2, nil), fresh("toolcount")
	produceLines(t, in, []string{"a b", "b c", "c d"})
	a := startWordCount(t, in, out, "group.protocol=streams", "application.id="+id)
	eventually(t, 2*time.Minute, a.runs)
	want := map[string]int64{"a": 1, "b": 2, "c": 2, "d": 1}
	wantCounts(t, out, want, false)
	allCommitted(t, id, in)

	bin, err := ottlaBinary()
	skipOrFail(t, err)
	own, err := exec.Command(bin, "group", "describe", id, "-b", broker(t).Addr).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, own)
	}
	wantLines(t, string(own), "^group "+id+"  type streams  state Stable  members 1", "^"+in+` +0 `)
	wantLines(t, tool(t, command, "", "--list"), "^"+id+"$")
	wantLines(t, tool(t, command, "", "--list", "--state"), "^"+id+` +Stable`)
	wantLines(t, tool(t, command, "", "--describe", "--group", id), "^"+id+" +"+in+` +0 `)
	wantLines(t, tool(t, command, "", "--describe", "--group", id, "--offsets", "--verbose"), "^"+id+" +"+id+`-words-repartition +1 `)
	wantLines(t, tool(t, command, "", "--describe", "--group", id, "--state"), "^"+id+` .*sticky|^`+id+` .*Stable`)
	wantLines(t, tool(t, command, "", "--describe", "--group", id, "--members"), "^"+id+` .*ACTIVE|^`+id)
	wantLines(t, tool(t, toolsPackage+"GroupsCommand", "", "--list", "--streams"), "^"+id+` +Streams +streams`)
	if r, err := tools(t).Run(patience(t, time.Minute), command, "", "--bootstrap-server", broker(t).Addr, "--delete", "--group", id); err != nil || r.Status == 0 && !containsAny(r.Out+r.Stderr, "NON_EMPTY", "not empty", "Error", "non-empty") {
		t.Fatalf("a group that is in use was deleted: %v %+v", err, r)
	}
	a.stop(t)
	isEmpty(t, id)
	wantLines(t, tool(t, command, "", "--describe", "--group", id, "--state"), "^"+id+` .*Empty`)
	wantLines(t, tool(t, command, "", "--reset-offsets", "--group", id, "--input-topic", in, "--to-earliest", "--dry-run"), "^"+id+" +"+in+` +[01] +0`)
	wantLines(t, tool(t, command, "", "--reset-offsets", "--group", id, "--input-topic", in, "--to-earliest", "--execute"), "^"+id+" +"+in+` +[01] +0`)
	wantLines(t, tool(t, command, "", "--delete-offsets", "--group", id, "--input-topic", in), in)

	tool(t, toolsPackage+"StreamsResetter", "", "--application-id", id, "--input-topics", in, "--force")
	tool(t, command, "", "--delete", "--group", id)
	if left := tool(t, command, "", "--list"); containsAny(left, id) {
		t.Fatalf("the group is still listed:\n%s", left)
	}
	eventually(t, 10*time.Second, func() error { return noTopicOf(t, id) })

	// From nothing again: the same counts once more.
	produceLines(t, in, []string{"e"})
	want["e"] = 1
	b := startWordCount(t, in, out, "group.protocol=streams", "application.id="+id)
	eventually(t, 2*time.Minute, b.runs)
	wantCounts(t, out, want, false)
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// noTopicOf tells that no internal topic of an application is left.
func noTopicOf(t *testing.T, id string) error {
	topics, err := admin(t).ListTopics(patience(t, 10*time.Second))
	if err != nil {
		return err
	}
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, id+"-") {
			return fmt.Errorf("topic %s is still there", name)
		}
	}
	return nil
}
