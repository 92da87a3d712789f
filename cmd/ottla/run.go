package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/ottla/ottla"
	"github.com/ottla/ottla/internal/cli"
)

// run runs a broker until ctx ends.
func run(ctx context.Context, o cli.RunOptions, ready func(cli.Running)) error {
	begun := time.Now()
	level := new(slog.LevelVar)
	if !o.Verbose {
		level.Set(slog.LevelWarn)
	}
	defaults := map[string]string{"listeners": "PLAINTEXT://:9092,CLUSTER://:9093"}
	if o.HTTP != "" {
		defaults["ottla.http.listen"] = o.HTTP
	}
	b, err := ottla.Start(ctx, ottla.Options{
		Defaults:   defaults,
		ConfigFile: o.ConfigFile, DataDir: o.DataDir, Listen: o.Listen, Set: o.Set, Environ: os.Environ(), Level: level, HTTPAnyPort: o.Dev,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	ready(cli.Running{Address: b.Addr(), HTTP: b.HTTPAddr(), DataDir: b.DataDir(), ClusterID: b.ClusterID(), Warnings: b.Warnings(), ReadyIn: time.Since(begun)})
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	return b.Close(stopping)
}
