package coordinator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

type emptyLog struct{}

func (emptyLog) Append(int32, int32, []byte, AppendOptions) (int64, error) { return 0, nil }
func (emptyLog) Bounds(int32) (start, end, hw int64, err error)            { return 0, 0, 0, nil }
func (emptyLog) Read(int32, int64, int) ([]byte, error)                    { return nil, nil }

type nothing struct{}

func (nothing) Replay(int64, int64, int16, Record) error                    { return nil }
func (nothing) ReplayEndTxn(int64, int16, bool) error                       { return nil }
func (nothing) OnLoaded(time.Time, *metadata.Image) []Timer                 { return nil }
func (nothing) OnImage(time.Time, *metadata.Image, *metadata.Delta) []Timer { return nil }
func (nothing) OnTimer(time.Time, string) (r Result[any], err error)        { return r, nil }
func (nothing) OnUnloaded()                                                 {}

// An operation that had found its partition before Close, and got into the mailbox after the last worker had gone.
func TestLateOperationIsAnswered(t *testing.T) {
	rt := New(Options[nothing]{Name: "test", Log: emptyLog{}, Decode: schema.ReadGroupRecord, NewShard: func(int32) nothing { return nothing{} }})
	rt.Load(0, 1)
	p := rt.c.lookup(0)
	if err := rt.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 * turnEvents {
		var got error
		op := &readOp[int, nothing]{reply: reply[int]{name: "late", done: func(_ int, err error) { got = err }, started: time.Time{}}}
		if err := p.put(op); err != nil || !errors.Is(got, kerr.NotCoordinator) {
			t.Fatal(err, got)
		}
	}
}

func TestIllegalTransitionPanicsWithItsName(t *testing.T) {
	defer func() {
		if r, ok := recover().(string); !ok || !strings.Contains(r, "[closed -> active]") {
			t.Fatal(r)
		}
	}()
	checkTransition(Closed, Active)
}
