package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"github.com/ottla/ottla"
	"github.com/ottla/ottla/internal/cli"
)

// The scripts under testdata are command lines as a user types them against a broker, and what the user then reads.
//
//	run             the lines are the arguments, one a line (quotes are for spaces); stdin=TEXT gives input
//	BROKER          stands for the broker's address, SILENT for one that accepts and never answers
func TestScripts(t *testing.T) {
	defer goleak.VerifyNone(t)
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		b, err := ottla.Start(t.Context(), ottla.Options{InMemory: true, Config: map[string]string{"num.partitions": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := b.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		silent := silence(t)
		addresses := strings.NewReplacer("BROKER", b.Addr(), "SILENT", silent)
		shown := strings.NewReplacer(b.Addr(), "BROKER", silent, "SILENT", b.ClusterID(), "CLUSTER")
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "run" {
				d.Fatalf(t, "there is no command %s", d.Cmd)
			}
			stdin := ""
			for _, a := range d.CmdArgs {
				if a.Key == "stdin" {
					stdin = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\s`, " ", `\e`, "=", `\q`, `"`).Replace(strings.Join(a.Vals, ", "))
				}
			}
			var out, errs bytes.Buffer
			env := cli.Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Version: "test", Program: "ottla", Getenv: func(name string) string {
				if name == "OTTLA_BOOTSTRAP" {
					return b.Addr()
				}
				return ""
			}}
			begun := time.Now()
			code := cli.Execute(t.Context(), env, arguments(addresses.Replace(d.Input)))
			if took := time.Since(begun); took > 4500*time.Millisecond {
				t.Errorf("%s: took %v", d.Pos, took)
			}
			text := out.String() + errs.String()
			if code != 0 {
				text += fmt.Sprintf("exit status %d\n", code)
			}
			return mask(shown.Replace(text))
		})
	})
}

// silence is the address of a listener that never answers.
func silence(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

var word = regexp.MustCompile(`'[^']*'|\S+`)

func arguments(line string) []string {
	var out []string
	for _, w := range word.FindAllString(line, -1) {
		out = append(out, strings.Trim(w, "'"))
	}
	return out
}

var (
	topicIDs = regexp.MustCompile(`\b[A-Za-z0-9_-]{22}\b`)
	times    = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|\b1[67]\d{11}\b`)
	ports    = regexp.MustCompile(`127\.0\.0\.1 +\d{4,5} +\d+`)
)

func mask(s string) string {
	s = topicIDs.ReplaceAllString(s, "ID")
	s = times.ReplaceAllString(s, "TIME")
	return ports.ReplaceAllString(s, "127.0.0.1 PORT BYTES")
}
