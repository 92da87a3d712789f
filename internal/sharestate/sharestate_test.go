package sharestate

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire/schema"
)

// A client waits for a shard that is not there yet, for a while, and not once it is closed.
func TestInsist(t *testing.T) {
	clk := shardtest.NewClock()
	rt := coordinator.New(coordinator.Options[*sharecoord.Shard]{
		Name: "share", Topic: Topic, Log: &shardtest.Log{}, Decode: schema.ReadShareRecord, Clock: clk,
		NewShard: func(int32) *sharecoord.Shard { return sharecoord.New(sharecoord.Config{}) },
	})
	c := New(Options{Runtime: rt, Image: func() *metadata.Image { return metadata.Empty("c") }, Clock: clk, Logger: slog.New(slog.DiscardHandler),
		Cut: func(int32, int64) error { return nil }, CutEvery: time.Hour})
	var got []error
	ask := func() {
		c.Delete(sharecoord.Key{Group: "g"}, func(err error) { got = append(got, err) })
	}
	ask()
	clk.Advance(4 * time.Second)
	if len(got) != 0 {
		t.Fatalf("after 4 s it gave up: %v", got)
	}
	clk.Advance(4 * time.Second)
	if len(got) != 1 || !errors.Is(got[0], kerr.CoordinatorNotAvailable) {
		t.Fatalf("after 8 s: %v", got)
	}
	ask()
	if err := c.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	if len(got) != 2 || clk.Timers() != 0 {
		t.Fatalf("closed: %v, %d timers", got, clk.Timers())
	}
}
