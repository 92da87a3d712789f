// Command ottla is the whole of Ottla: the broker and the tools. It knows the command line and the broker that it runs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ottla/ottla/internal/cli"
)

// version is set by the release's build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := cli.OSEnv()
	env.Version, env.Run = version, run
	code := cli.Execute(ctx, env, os.Args[1:])
	stop()
	os.Exit(code)
}
