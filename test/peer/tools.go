package peer

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

//go:embed java/Driver.java
var driverSource []byte

// Tools runs Kafka's command line tools in one JVM: a JVM each would cost a second of CPU a call.
type Tools struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	errs *tail
	done chan struct{} // closed when the JVM has ended

	mu      sync.Mutex
	next    int
	waiting map[string]chan ToolResult
	dead    error
}

// ToolResult is what one tool run printed and how it ended.
type ToolResult struct {
	Status      int // exit status
	Out, Stderr string
}

// CompileJava compiles one source against the given jars into the cache and returns the directory of classes.
func CompileJava(name string, source []byte, jars string) (string, error) {
	return Cached("java-"+strings.ToLower(name), append([]byte(jars), source...), func(dir string) error {
		file := filepath.Join(dir, name+".java")
		if err := os.WriteFile(file, source, 0o644); err != nil {
			return err
		}
		return Command(dir, nil, "javac", "-nowarn", "-d", dir, "-cp", jars+"/*", file)
	})
}

// StartTools starts the JVM that runs the tools.
func (k *Kafka) StartTools() (*Tools, error) {
	classes, err := CompileJava("Driver", driverSource, k.ToolsJars)
	if err != nil {
		return nil, err
	}
	logging, err := quietLogging(classes)
	if err != nil {
		return nil, err
	}
	t := &Tools{waiting: map[string]chan ToolResult{}, errs: &tail{}, done: make(chan struct{})}
	t.cmd = exec.Command(k.Java, "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", logging, "-cp", classes, "Driver", k.ToolsJars)
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.cmd.Stderr = t.errs
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	go t.receive(out)
	return t, nil
}

func (t *Tools) receive(out io.Reader) {
	defer close(t.done)
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 256<<20)
	for sc.Scan() {
		w := strings.Split(sc.Text(), " ")
		if len(w) != 4 {
			continue
		}
		status, _ := strconv.Atoi(w[1])
		stdout, _ := base64.StdEncoding.DecodeString(w[2])
		stderr, _ := base64.StdEncoding.DecodeString(w[3])
		t.mu.Lock()
		ch := t.waiting[w[0]]
		delete(t.waiting, w[0])
		t.mu.Unlock()
		if ch != nil {
			ch <- ToolResult{status, string(stdout), string(stderr)}
		}
	}
	ended := t.cmd.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = fmt.Errorf("the tools' JVM ended: %v, %v\n%s", ended, sc.Err(), t.errs)
	for id, ch := range t.waiting {
		delete(t.waiting, id)
		close(ch)
	}
}

// Run calls the main method of a class of Kafka's jars; an exit status other than 0 is not an error of Run.
func (t *Tools) Run(ctx context.Context, class, stdin string, args ...string) (ToolResult, error) {
	ch := make(chan ToolResult, 1)
	enc := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	t.mu.Lock()
	if t.dead != nil {
		t.mu.Unlock()
		return ToolResult{}, t.dead
	}
	t.next++
	id := strconv.Itoa(t.next)
	t.waiting[id] = ch
	words := []string{id, enc(class), enc(stdin)}
	for _, a := range args {
		words = append(words, enc(a))
	}
	_, err := io.WriteString(t.in, strings.Join(words, " ")+"\n")
	t.mu.Unlock()
	if err != nil {
		return ToolResult{}, fmt.Errorf("tools' JVM: %w\n%s", err, t.errs)
	}
	select {
	case r, ok := <-ch:
		if !ok {
			t.mu.Lock()
			defer t.mu.Unlock()
			return r, fmt.Errorf("%s: %w", class, t.dead)
		}
		return r, nil
	case <-ctx.Done():
		return ToolResult{}, fmt.Errorf("%s %s: %w", class, strings.Join(args, " "), ctx.Err())
	}
}

// RunTool calls a tool in a JVM of its own, for the few that end their JVM themselves or live in its shutdown hooks.
func (k *Kafka) RunTool(ctx context.Context, class, stdin string, args ...string) (ToolResult, error) {
	logging, err := quietLogging(k.ToolsJars)
	if err != nil {
		return ToolResult{}, err
	}
	c := exec.CommandContext(ctx, k.Java, append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", logging, "-cp", k.ToolsJars + "/*", class}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, errs strings.Builder
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errs
	err = c.Run()
	r := ToolResult{Status: c.ProcessState.ExitCode(), Out: out.String(), Stderr: errs.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	return r, err
}

// Close ends the JVM.
func (t *Tools) Close() {
	t.in.Close()
	<-t.done
}
