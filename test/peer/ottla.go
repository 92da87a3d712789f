package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// BuildOttla builds cmd/ottla of this source tree into dir, or takes the binary that $OTTLA_BIN names.
func BuildOttla(dir string) (string, error) {
	if bin := os.Getenv("OTTLA_BIN"); bin != "" {
		return bin, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(root, "cmd", "ottla", "main.go")); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: this tree has no cmd/ottla", ErrMissing)
	}
	bin := filepath.Join(dir, "ottla")
	c := exec.Command("go", "build", "-o", bin, "./cmd/ottla")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/ottla: %w\n%s", err, out)
	}
	return bin, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
	}
}

// NewOttla prepares a broker of the given binary without starting it; Restart or Launch does.
func NewOttla(bin string, o Options) (*Broker, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, "data"), 0o755); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	b := &Broker{Name: "ottla", Addr: "127.0.0.1:" + strconv.Itoa(port), Dir: o.Dir, ready: func(addr string) bool { return Answers(addr, time.Second) }}
	args := []string{"dev", "--data", b.DataDir(), "--port", strconv.Itoa(port)}
	if !o.Dev {
		conf := filepath.Join(o.Dir, "server.properties")
		err := writeProperties(conf, singleNode(), map[string]string{
			"listeners": "PLAINTEXT://" + b.Addr,
			"log.dirs":  b.DataDir(),
		}, o.Properties)
		if err != nil {
			return nil, err
		}
		args = []string{"start", "-c", conf}
	}
	b.launch = func() (*process, error) {
		return startProcess(bin, args, nil, o.Dir, filepath.Join(o.Dir, "broker.log"))
	}
	return b, nil
}

// StartOttla starts a broker of the given binary and waits until it answers.
func StartOttla(ctx context.Context, bin string, o Options) (*Broker, error) {
	b, err := NewOttla(bin, o)
	if err != nil {
		return nil, err
	}
	return b, b.start(ctx)
}
