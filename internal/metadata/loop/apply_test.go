package loop

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

func topicNamed(name string, id byte) metadata.Versioned {
	return metadata.Newest(&schema.TopicRecord{Name: name, TopicID: metadata.UUID{1, id}})
}

// A node that is not the active controller takes no operations, and follows what others commit: in order, each once, a transaction of the
// log whole or not at all, a snapshot as the difference.
func TestFollows(t *testing.T) {
	f, e := &fakeLog{auto: true}, &events{}
	l := newLoop(t, f, e)
	defer l.Close()
	l.SetPassive()
	if _, err := l.Do(context.Background(), create(1)); !errors.Is(err, kerr.NotController) {
		t.Fatal(err)
	}
	apply := func(base int64, records ...metadata.Versioned) {
		t.Helper()
		c := Commit{Base: base, Count: max(1, int64(len(records))), Epoch: 3, Leader: 2, Records: records}
		for range 2 { // the second time is nothing
			if err := l.Apply(c); err != nil {
				t.Fatal(err)
			}
			if c.Records != nil {
				if _, begins := c.Records[0].Message.(*schema.BeginTransactionRecord); begins {
					break
				}
			}
		}
	}
	apply(0) // a control record
	apply(1, topicNamed("a", 1), topicNamed("b", 2))
	apply(3, metadata.Newest(&schema.BeginTransactionRecord{}), topicNamed("c", 3))
	if l.Image().Topic("c") != nil || l.Image().Offset() != 2 {
		t.Fatal("half a transaction is seen")
	}
	apply(5, metadata.Newest(&schema.EndTransactionRecord{}))
	if img := l.Image(); img.Topic("c") == nil || img.Offset() != 5 || img.Epoch() != 3 || img.ControllerID() != 2 {
		t.Fatalf("offset %d epoch %d controller %d", img.Offset(), img.Epoch(), img.ControllerID())
	}
	d := metadata.NewDelta(metadata.Empty("c"))
	for i, r := range []metadata.Versioned{topicNamed("b", 2), topicNamed("d", 4)} {
		if err := d.Replay(int64(i), 4, r.Message); err != nil {
			t.Fatal(err)
		}
	}
	d.SetPosition(9, 4)
	l.Install(d.Image())
	want := []string{"offset -1 topics 0", "offset 0 topics 0", "offset 2 topics 2", "offset 5 topics 1", "offset 9 topics 3"}
	var got []string
	for _, s := range e.log {
		if len(s) > 6 && s[:6] == "first " {
			got = append(got, s[6:])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q instead of %q", got[i], want[i])
		}
	}
	if img := l.Image(); img.Topic("a") != nil || img.Topic("d") == nil {
		t.Error("the snapshot's topics are not those of the image")
	}
	f.next = 10
	l.SetActive()
	if _, err := l.Do(context.Background(), create(7)); err != nil {
		t.Fatal(err)
	}
}
