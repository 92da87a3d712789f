// Command goclient is a client program of the interop tests for the Go client libraries: goclient LIBRARY BOOTSTRAP.
//
// It knows the conversation of the tests (one JSON command a line in, one JSON answer a line out; a group member answers
// with events until its input ends) and the public API of the libraries. It must never know anything of the broker's code.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// record is one record as the tests write it; bytes travel as base64 and null stays null.
type record struct {
	P  int32    `json:"p"`
	O  int64    `json:"o"`
	K  []byte   `json:"k"`
	V  []byte   `json:"v"`
	H  [][2]any `json:"h"`
	TS int64    `json:"ts"`
}

type command struct {
	Cmd        string            `json:"cmd"`
	Topic      string            `json:"topic"`
	Codec      string            `json:"codec"`
	Idempotent bool              `json:"idempotent"`
	Records    []record          `json:"records"`
	Partitions int32             `json:"partitions"`
	Count      int               `json:"count"`
	Configs    map[string]string `json:"configs"`
	TS         int64             `json:"ts"`
	Group      string            `json:"group"`
	Protocol   string            `json:"protocol"`
	SessionMs  int               `json:"sessionMs"`
}

type answer struct {
	Offsets []int64           `json:"offsets,omitempty"`
	Records []record          `json:"records,omitempty"`
	Topics  []string          `json:"topics,omitempty"`
	Configs map[string]string `json:"configs,omitempty"`
	Groups  []string          `json:"groups,omitempty"`
}

// client is what every library is wrapped as. group runs until stop is closed.
type client interface {
	produce(command) (answer, error)
	consume(command) (answer, error)
	create(command) error
	list() (answer, error)
	describe(command) (answer, error)
	alter(command) error
	remove(command) error
	groups() (answer, error)
	offsets(command) (answer, error)
	group(c command, stop <-chan struct{}) error
}

// unsupported is the error of a library that cannot do what is asked; the test skips with its text.
type unsupported string

func (u unsupported) Error() string { return string(u) }

var out sync.Mutex

func emit(v any) {
	out.Lock()
	defer out.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		os.Exit(3) // nobody listens any more
	}
}

func emitRecord(p int32, o int64, value []byte) {
	emit(map[string]any{"ev": "rec", "p": p, "o": o, "v": value})
}

func emitCommitFailed(err error) { emit(map[string]any{"ev": "commitfailed", "text": err.Error()}) }

func main() {
	boot := os.Args[2]
	var c client
	switch os.Args[1] {
	case "franz":
		c = &franz{boot: boot}
	case "sarama":
		c = &saramaClient{boot: boot}
	case "kafka-go":
		c = &kafkaGo{boot: boot}
	default:
		fmt.Fprintln(os.Stderr, "unknown library", os.Args[1])
		os.Exit(2)
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var cmd command
		if err := json.Unmarshal(line, &cmd); err != nil {
			emit(map[string]string{"error": err.Error()})
			continue
		}
		ans, err := run(c, cmd, in)
		var u unsupported
		switch {
		case errors.As(err, &u):
			emit(map[string]string{"unsupported": string(u)})
		case err != nil:
			emit(map[string]string{"error": err.Error()})
		case cmd.Cmd == "group":
			emit(map[string]string{"ev": "closed"})
			return
		default:
			emit(ans)
		}
	}
}

func run(c client, cmd command, in io.Reader) (answer, error) {
	switch cmd.Cmd {
	case "produce":
		return c.produce(cmd)
	case "consume":
		return c.consume(cmd)
	case "create":
		return answer{}, c.create(cmd)
	case "list":
		return c.list()
	case "describe":
		return c.describe(cmd)
	case "alter":
		return answer{}, c.alter(cmd)
	case "delete":
		return answer{}, c.remove(cmd)
	case "groups":
		return c.groups()
	case "offsets":
		return c.offsets(cmd)
	case "group":
		stop := make(chan struct{})
		go func() {
			io.Copy(io.Discard, in)
			close(stop)
		}()
		return answer{}, c.group(cmd, stop)
	}
	return answer{}, unsupported(cmd.Cmd + " is not offered by this client")
}

// headerValue is the bytes of a header as they stand in a command.
func headerValue(v any) []byte {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	var b []byte
	if json.Unmarshal([]byte(`"`+s+`"`), &b) != nil {
		return nil
	}
	return b
}

func headerName(v any) string { s, _ := v.(string); return s }
