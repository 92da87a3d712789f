package broker

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/loop"
)

// brain runs operations of the controller on the metadata's event loop.
type brain struct {
	ctl  *controller.Controller
	loop *loop.Loop
	// cluster finds the active controller where it is another node.
	cluster *cluster
	begun   time.Time // with the monotonic clock, the zero of Env.MonoMs
}

func (b *brain) env(now time.Time) controller.Env {
	return controller.Env{NowMs: now.UnixMilli(), MonoMs: now.Sub(b.begun).Milliseconds(), NewID: newID, Random: random32()}
}

// Submit runs op on the loop; done comes once its records are committed and published.
func (b *brain) Submit(_ string, op func(c *controller.Controller, img *metadata.Image, env controller.Env) controller.Records, done func(error)) {
	b.loop.Submit(func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
		return op(b.ctl, img, b.env(now)), nil, nil
	}, func(_ any, err error) { done(err) })
}

// newID makes a random id fit for topics, directories and incarnations.
func newID() (id metadata.UUID) {
	for {
		_, _ = rand.Read(id[:]) // never fails, by its documentation
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if controller.ValidID(id) {
			return id
		}
	}
}

func random32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}
