// Package cli is the command line: one file per command. It knows flags, what to print and the Kafka protocol through a
// client library; it must never know a broker's inside (how to start one is handed in by main).
package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/internal/config"
)

// Env is what a command needs from the world.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// Program is how the user names this program in a shell.
	Program string
	// Run starts a broker with the given settings, calls ready once it answers, and returns when ctx ends and it has stopped.
	Run     func(ctx context.Context, o RunOptions, ready func(Running)) error
	Version string
}

// RunOptions say which broker to run. Config keys are Kafka's names.
type RunOptions struct {
	ConfigFile string
	DataDir    string
	Listen     string // host:port of a plain listener; "" leaves it to the configuration
	HTTP       string // host:port of the HTTP listener where no setting says otherwise; "" is none
	Set        []string
	Dev        bool
	Verbose    bool
}

// Running is what a started broker says of itself.
type Running struct {
	Address, DataDir, ClusterID string
	HTTP                        string // host:port of the HTTP listener, "" without one
	Warnings                    []string
	ReadyIn                     time.Duration
}

// dialTimeout bounds how long a wrong address can keep the user waiting.
const dialTimeout = 3 * time.Second

// command is the state the flags of all client commands share.
type command struct {
	env     Env
	brokers []string
	output  string
	timeout time.Duration
}

// New is the whole command tree.
func New(env Env) *cobra.Command {
	root := &cobra.Command{
		Use:           "ottla",
		Short:         "An event streaming platform that speaks the Kafka protocol",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       env.Version,
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	c := &command{env: env}
	def := env.Getenv(config.EnvBootstrap)
	if def == "" {
		def = "localhost:9092"
	}
	root.PersistentFlags().StringSliceVarP(&c.brokers, "bootstrap", "b", []string{def}, "broker addresses, host:port[,host:port]; default from OTTLA_BOOTSTRAP")
	root.PersistentFlags().DurationVar(&c.timeout, "timeout", 15*time.Second, "how long a request may take")
	c.output = "text"
	for _, cmd := range []*cobra.Command{c.topic(), c.produce(), c.group(), c.cluster(), c.dlq(), c.txn(), c.backup(), c.restore(), c.broker(), c.balance(), c.upgrade()} {
		cmd.PersistentFlags().StringVarP(&c.output, "output", "o", "text", "output: text or json")
		root.AddCommand(cmd)
	}
	root.AddCommand(c.dev(), c.start(), c.consume()) // consume has a -o of its own, which says offsets as well
	polite(root)
	return root
}

// Execute runs the command line and returns the exit code.
func Execute(ctx context.Context, env Env, args []string) int {
	root := New(env)
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return 130
		}
		fmt.Fprintln(env.Stderr, "ottla:", explain(err))
		return 1
	}
	return 0
}

func (c *command) json() bool { return c.output == "json" }

func (c *command) checkOutput() error {
	if c.output != "text" && c.output != "json" {
		return fmt.Errorf("--output %q is not known; it is text or json", c.output)
	}
	return nil
}

// client connects, or says within dialTimeout which addresses were tried and what each said.
func (c *command) client(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	if err := c.checkOutput(); err != nil {
		return nil, err
	}
	if err := checkBrokers(c.brokers); err != nil {
		return nil, err
	}
	pingCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := c.reachable(pingCtx); err != nil {
		return nil, err
	}
	opts = append([]kgo.Opt{kgo.SeedBrokers(c.brokers...), kgo.ClientID("ottla-cli"), kgo.DialTimeout(dialTimeout), kgo.RequestTimeoutOverhead(5 * time.Second)}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	if err := ping(pingCtx, cl); err != nil {
		go cl.Close() // it waits for what is under way, which here may never end
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s accepts connections but does not answer as a Kafka broker (tried for %v): %w\nIs it the port of something else, or of a listener with TLS?", strings.Join(c.brokers, ", "), dialTimeout, err)
	}
	return cl, nil
}

// ping asks whether a Kafka broker is there, for as long as ctx lives: the client itself waits longer for the first answer.
func ping(ctx context.Context, cl *kgo.Client) error {
	answer := make(chan error, 1)
	go func() { answer <- cl.Ping(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *command) reachable(ctx context.Context) error {
	errs := make([]error, len(c.brokers))
	var wg sync.WaitGroup
	for i, addr := range c.brokers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			c.brokers[i] = net.JoinHostPort(addr, "9092")
		}
		wg.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.brokers[i])
			if errs[i] = err; err == nil {
				errs[i] = conn.Close()
			}
		})
	}
	wg.Wait()
	var tried []string
	for i, err := range errs {
		if err == nil {
			return nil
		}
		tried = append(tried, fmt.Sprintf("  %s: %v", c.brokers[i], err))
	}
	return fmt.Errorf("no broker answers; tried\n%s\nStart one with `ottla dev`, or name its address with --bootstrap host:port", strings.Join(tried, "\n"))
}

// admin runs f with an admin client.
func (c *command) admin(cmd *cobra.Command, f func(ctx context.Context, adm *kadm.Client) error) error {
	return c.withClient(cmd, func(ctx context.Context, cl *kgo.Client) error { return f(ctx, kadm.NewClient(cl)) })
}

// withClient runs f with a connected client and the request timeout.
func (c *command) withClient(cmd *cobra.Command, f func(ctx context.Context, cl *kgo.Client) error) error {
	cl, err := c.client(cmd.Context())
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	return f(ctx, cl)
}

func (c *command) printJSON(v any) error {
	enc := json.NewEncoder(c.env.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// topicID is an id as Kafka's tools print it.
func topicID(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// table prints rows under a header, aligned.
func (c *command) table(header string, rows func(row func(cells ...any))) error {
	w := tabwriter.NewWriter(c.env.Stdout, 0, 4, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	}
	rows(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	})
	return w.Flush()
}

// OSEnv is the real world.
func OSEnv() Env {
	return Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Program: program(os.Args[0])}
}

// program is what to type to run this program again: the word alone where the shell finds it.
func program(arg0 string) string {
	self, err := os.Executable()
	if err != nil {
		return "ottla"
	}
	if strings.Contains(self, "go-build") {
		return "go run ./cmd/ottla"
	}
	if found, err := exec.LookPath(filepath.Base(arg0)); err == nil {
		a, errA := os.Stat(found)
		b, errB := os.Stat(self)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return filepath.Base(arg0)
		}
	}
	return arg0
}
