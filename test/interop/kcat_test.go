package interop

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// kcat runs kcat with its input and returns what it printed; a machine without it skips the test.
func kcat(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("kcat")
	if err != nil {
		t.Skip("kcat is not installed (Debian package kcat)")
	}
	c := exec.CommandContext(patience(t, 60*time.Second), path, append([]string{"-b", broker(t).Addr}, args...)...)
	c.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("kcat %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

// If this fails, the two lines that `ottla dev` prints for kcat do not work, in some codec.
func TestKcatProduceAndConsume(t *testing.T) {
	broker(t)
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			topic := createTopic(t, 2, nil)
			var in strings.Builder
			for i := range 500 {
				fmt.Fprintf(&in, "k%d:value %d\n", i, i)
			}
			kcat(t, in.String(), "-P", "-t", topic, "-p", "1", "-K:", "-z", codec, "-H", "trace=abc", "-X", "enable.idempotence=true")
			out := kcat(t, "", "-C", "-t", topic, "-p", "1", "-o", "beginning", "-e", "-q", "-f", "%k:%s\n")
			if out != in.String() {
				t.Fatalf("read %d bytes, wrote %d:\n%.300s", len(out), in.Len(), out)
			}
			if out := kcat(t, "", "-C", "-t", topic, "-p", "1", "-o", "-1", "-e", "-q", "-f", "%o %h %k"); out != "499 trace=abc k499" {
				t.Fatalf("the last record is %q", out)
			}
		})
	}
}

// If this fails, kcat cannot list the cluster, look up offsets by time, or read as a group and go on where it stopped.
func TestKcatMetadataOffsetsAndGroup(t *testing.T) {
	t.Parallel()
	topic := createTopic(t, 1, nil)
	kcat(t, "a\nb\nc\n", "-P", "-t", topic)
	wantLines(t, kcat(t, "", "-L", "-t", topic), `topic "`+topic+`" with 1 partitions`, `partition 0, leader \d+, replicas: \d+, isrs: \d+`)
	wantLines(t, kcat(t, "", "-Q", "-t", topic+":0:1"), topic+` \[0\] offset 0`)
	group := fresh("kcat-group")
	read := func(want string) {
		t.Helper()
		if out := kcat(t, "", "-G", group, "-X", "auto.offset.reset=earliest", "-c", fmt.Sprint(strings.Count(want, "\n")), "-q", topic); out != want {
			t.Fatalf("the group read %q, want %q", out, want)
		}
	}
	read("a\nb\nc\n")
	kcat(t, "d\n", "-P", "-t", topic)
	read("d\n")
}
