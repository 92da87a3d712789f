package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
)

// library is one client library behind a client program that speaks the conversation of clients/*/harness.
type library struct {
	name    string
	command func() (args, env []string, err error)

	mapHeaders    bool // headers are a map there: no name twice
	noNullHeaders bool // refuses or alters null header values
	emptyIsNull   bool // does not tell an empty value from a null one
	next          bool // speaks KIP-848
}

func libraries() []library {
	return []library{
		{name: "java", command: javaClient, next: true},
		{name: "confluent-kafka", command: pythonClient("confluent_client.py"), next: true},
		{name: "kafka-python", command: pythonClient("kafka_python_client.py"), noNullHeaders: true},
		{name: "aiokafka", command: pythonClient("aiokafka_client.py")},
		{name: "kafkajs", command: nodeClient("node", "kafkajs_client.js"), mapHeaders: true, noNullHeaders: true},
		{name: "confluent-kafka-javascript", command: nodeClient("node-native", "confluent_client.js"), mapHeaders: true, noNullHeaders: true, emptyIsNull: true, next: true},
		{name: "franz-go", command: goClient("franz"), next: true},
		{name: "sarama", command: goClient("sarama")},
		{name: "kafka-go", command: goClient("kafka-go"), emptyIsNull: true},
	}
}

// eachLibrary runs do as a subtest for every client library, several at once.
func eachLibrary(t *testing.T, do func(t *testing.T, lib library)) {
	broker(t)
	only := os.Getenv("OTTLA_INTEROP_CLIENTS")
	for _, lib := range libraries() {
		if only != "" && !strings.Contains(","+only+",", ","+lib.name+",") {
			continue
		}
		t.Run(lib.name, func(t *testing.T) {
			t.Parallel()
			do(t, lib)
		})
	}
}

func clientFile(parts ...string) string {
	p, err := filepath.Abs(filepath.Join(append([]string{"clients"}, parts...)...))
	if err != nil {
		panic(err)
	}
	return p
}

func javaClient() (args, env []string, err error) {
	k, err := peer.FetchKafka()
	if err != nil {
		return nil, nil, err
	}
	src, err := os.ReadFile(clientFile("java", "JavaClient.java"))
	if err != nil {
		return nil, nil, err
	}
	classes, err := peer.CompileJava("JavaClient", src, k.BrokerJars)
	if err != nil {
		return nil, nil, err
	}
	return []string{k.Java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=error", "-cp", classes + ":" + k.BrokerJars + "/*", "JavaClient"}, nil, nil
}

func pythonClient(script string) func() (args, env []string, err error) {
	return func() ([]string, []string, error) {
		lock, err := os.ReadFile(clientFile("python", "requirements.txt"))
		if err != nil {
			return nil, nil, err
		}
		dir, err := peer.Cached("python", lock, func(dir string) error {
			if err := peer.Command(dir, nil, "python3", "-m", "venv", "."); err != nil {
				return err
			}
			return peer.Command(dir, nil, filepath.Join(dir, "bin", "pip"), "install", "-q", "-r", clientFile("python", "requirements.txt"))
		})
		return []string{filepath.Join(dir, "bin", "python"), clientFile("python", script)}, nil, err
	}
}

// nodeClient installs the locked packages of clients/<set>. The native library is built on the machine: its ready-made
// binaries are not part of the package.
func nodeClient(set, script string) func() (args, env []string, err error) {
	return func() ([]string, []string, error) {
		dir, err := nodePackages(set)
		return []string{"node", clientFile("node", script)}, []string{"NODE_PATH=" + filepath.Join(dir, "node_modules")}, err
	}
}

func nodePackages(set string) (string, error) {
	lock, err := os.ReadFile(clientFile(set, "package-lock.json"))
	if err != nil {
		return "", err
	}
	return peer.Cached(set, lock, func(dir string) error {
		for _, f := range []string{"package.json", "package-lock.json"} {
			b, err := os.ReadFile(clientFile(set, f))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
				return err
			}
		}
		if err := peer.Command(dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil || set == "node" {
			return err
		}
		if err := peer.Command(dir, nil, "pkg-config", "--exists", "libssl", "zlib", "libzstd", "libsasl2"); err != nil {
			return fmt.Errorf("building librdkafka needs pkg-config, g++ and the development files of OpenSSL, zlib, zstd, SASL: %w", err)
		}
		return peer.Command(dir, []string{"CKJS_LINKING=dynamic", "MAKEFLAGS="}, "npm", "rebuild", "--foreground-scripts")
	})
}

var goClientBuild struct {
	sync.Once
	bin string
	err error
}

func goClient(lib string) func() (args, env []string, err error) {
	return func() ([]string, []string, error) {
		b := &goClientBuild
		b.Do(func() {
			b.bin = filepath.Join(run.dir, "goclient")
			if out, err := exec.Command("go", "build", "-o", b.bin, "./clients/goclient").CombinedOutput(); err != nil {
				b.err = fmt.Errorf("build goclient: %w\n%s", err, out)
			}
		})
		return []string{b.bin, lib}, nil, b.err
	}
}

// rec is one record as the conversation carries it.
type rec struct {
	P  int32    `json:"p"`
	O  int64    `json:"o"`
	K  []byte   `json:"k"`
	V  []byte   `json:"v"`
	H  []header `json:"h"`
	TS int64    `json:"ts"`
}

type header struct {
	Name  string
	Value []byte
}

func (h header) MarshalJSON() ([]byte, error) { return json.Marshal([2]any{h.Name, h.Value}) }

func (h *header) UnmarshalJSON(b []byte) error {
	pair := [2]any{&h.Name, &h.Value}
	return json.Unmarshal(b, &pair)
}

// command and reply are the two sides of the conversation.
type command struct {
	Cmd        string            `json:"cmd"`
	Topic      string            `json:"topic,omitempty"`
	Codec      string            `json:"codec,omitempty"`
	Idempotent bool              `json:"idempotent,omitempty"`
	Records    []rec             `json:"records,omitempty"`
	Partitions int32             `json:"partitions,omitempty"`
	Count      int               `json:"count,omitempty"`
	Configs    map[string]string `json:"configs,omitempty"`
	TS         int64             `json:"ts,omitempty"`
	Group      string            `json:"group,omitempty"`
	Protocol   string            `json:"protocol,omitempty"`
	SessionMs  int               `json:"sessionMs,omitempty"`
}

type reply struct {
	Ev          string            `json:"ev"`
	Text        string            `json:"text"`
	Error       string            `json:"error"`
	Unsupported string            `json:"unsupported"`
	Offsets     []int64           `json:"offsets"`
	Records     []rec             `json:"records"`
	Topics      []string          `json:"topics"`
	Configs     map[string]string `json:"configs"`
	Groups      []string          `json:"groups"`
	P           int32             `json:"p"`
	O           int64             `json:"o"`
	V           []byte            `json:"v"`
}

// program is one running client program.
type program struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan reply
	eof     chan struct{} // closed when everything it printed is in replies
	errs    *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs the library's client program against the shared broker; it ends with the test at the latest.
func (l library) start(t *testing.T) *program {
	t.Helper()
	return l.startAt(t, broker(t).Addr)
}

func (l library) startAt(t *testing.T, addr string) *program {
	t.Helper()
	args, env, err := l.command()
	skipOrFail(t, err)
	p := &program{cmd: exec.Command(args[0], append(args[1:], addr)...), replies: make(chan reply, 100_000), eof: make(chan struct{}), errs: &syncBuffer{}}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Skipf("%s cannot be run: %v", l.name, err)
	}
	go func() {
		defer close(p.eof)
		defer close(p.replies)
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 64<<20)
		for sc.Scan() {
			var r reply
			if !bytes.HasPrefix(sc.Bytes(), []byte("{")) {
				fmt.Fprintln(p.errs, sc.Text()) // libraries print to standard output too
				continue
			}
			if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
				r.Error = fmt.Sprintf("%v in %q", err, sc.Text())
			}
			p.replies <- r
		}
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *program) send(t *testing.T, c command) {
	t.Helper()
	if err := json.NewEncoder(p.in).Encode(c); err != nil {
		t.Fatalf("%v\n%s", err, p.errs)
	}
}

// ask sends a command and returns its answer; a command the library cannot do skips the test.
func (p *program) ask(t *testing.T, c command) reply {
	t.Helper()
	p.send(t, c)
	select {
	case r, ok := <-p.replies:
		if !ok {
			t.Fatalf("%s: the client program ended\n%s", c.Cmd, p.errs)
		}
		if r.Unsupported != "" {
			t.Skip(r.Unsupported)
		}
		if r.Error != "" {
			t.Fatalf("%s: %s\n%s", c.Cmd, r.Error, p.errs)
		}
		return r
	case <-time.After(60 * time.Second):
		t.Fatalf("%s: no answer within 60 s\n%s", c.Cmd, p.errs)
	}
	return reply{}
}

// kill ends the program as a crash would. What it had printed before is still in replies.
func (p *program) kill() {
	p.cmd.Process.Kill()
	select {
	case <-p.eof:
	case <-time.After(5 * time.Second):
	}
	p.cmd.Wait()
}
