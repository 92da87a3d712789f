// Package controller is the cluster's brain: given the image of the metadata and a request it says which records to
// write and what to answer. Each operation is a function of its arguments; nothing has happened until the records
// are committed and replayed into the image.
//
// It knows topics, placement, configs, registrations, producer ids and features, and Kafka's rules for them. It must
// never know how records are committed, what time it is, who is asking, or how requests arrive: time, ids and
// authorised requests come as arguments.
package controller

import (
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Env is what an operation takes from the world.
type Env struct {
	NowMs int64
	// MonoMs is a clock that never jumps, with any zero.
	MonoMs int64
	// NewID makes a random id that is neither zero nor one of Kafka's reserved ones (see ValidID).
	NewID func() metadata.UUID
	// Random is a number that spreads placement.
	Random uint32
}

// ValidID says whether a random id may be a topic's, directory's or incarnation's: the first hundred are reserved,
// and one whose text would start with a dash confuses command lines.
func ValidID(id metadata.UUID) bool {
	for _, b := range id[:15] {
		if b != 0 {
			return id[0]>>2 != 62 // base64url's 62nd letter is '-'
		}
	}
	return id[15] >= 100
}

// Records is what an operation wants written, in order, in the versions of the finalized metadata level.
type Records []metadata.Versioned

func (r *Records) add(m schema.Message) { *r = append(*r, metadata.Newest(m)) }

// Controller holds what is fixed for one node, and who was heard of when. It belongs to one goroutine.
type Controller struct {
	node     int32
	static   *config.Values
	sessions sessions
	joined   int32 // the largest id that was given to a new node

	// the settings as they are in the image that was last looked at
	cluster, broker map[string]string
	values          *config.Values
}

// New makes the controller of a node with its static settings.
func New(node int32, static *config.Values) *Controller {
	return &Controller{node: node, static: static, values: static}
}

// Values are the node's settings with the dynamic ones of an image.
func (c *Controller) Values(img *metadata.Image) *config.Values {
	cluster, broker := img.Config(metadata.BrokerConfig, ""), img.Config(metadata.BrokerConfig, itoa(c.node))
	if !maps.Equal(cluster, c.cluster) || !maps.Equal(broker, c.broker) {
		c.values, _ = c.static.WithDynamic(cluster, broker)
		c.cluster, c.broker = cluster, broker
	}
	return c.values
}

// status is the code and message to answer for err. A protocol error made by Errorf keeps its text; a bare code has Kafka's own.
func status(err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	var ours *wire.Error
	if errors.As(err, &ours) {
		return ours.Kerr.Code, &ours.Msg
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		msg := standard(k)
		return k.Code, &msg
	}
	msg := err.Error()
	return kerr.UnknownServerError.Code, &msg
}

// standard is the text that Kafka gives to a code without a story.
func standard(k *kerr.Error) string {
	switch k {
	case kerr.UnknownTopicOrPartition:
		return "This server does not host this topic-partition."
	case kerr.UnknownTopicID:
		return "This server does not host this topic ID."
	case kerr.InvalidRequest:
		return "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details."
	}
	return k.Description
}

// sentence is an error whose text is shown to people as it is.
func sentence(format string, args ...any) error { return fmt.Errorf(format, args...) }

// configError is a refused setting as a protocol error.
func configError(err error) error {
	if err == nil {
		return nil
	}
	if config.IsRequestError(err) {
		return wire.Errorf(kerr.InvalidRequest, "%s", err)
	}
	return wire.Errorf(kerr.InvalidConfig, "%s", err)
}
