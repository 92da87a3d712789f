// Package api is the translation room: one file per Kafka API turns its request into one call on the rooms below and the
// outcome into its response. It knows every message and the table of APIs; it must never hold state, take a lock, start a
// goroutine or wait: what has to wait is answered from a callback.
package api

import (
	"log/slog"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/feed"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/replica/fetchsession"
	"github.com/ottla/ottla/internal/sharefetch"
	"github.com/ottla/ottla/internal/sharestate"
	"github.com/ottla/ottla/internal/telemetry"
	"github.com/ottla/ottla/internal/txn"
)

// Controller runs an operation of the cluster's brain. op is called with the newest image and returns the records to
// commit; done runs once they are committed and this broker has applied them, or with the reason why not. Both run on
// goroutines of the controller and must not block.
type Controller interface {
	// CreateTopics has topics created, by whichever node is the active controller; done runs once they are known here.
	CreateTopics(name string, req *kmsg.CreateTopicsRequest, done func(resp *kmsg.CreateTopicsResponse, err error))
	Submit(name string, op func(c *controller.Controller, img *metadata.Image, env controller.Env) controller.Records, done func(error))
}

// Cluster is this node among others.
type Cluster interface {
	// Active says whether this node is the active controller.
	Active() bool
	// Forward has a request answered by the node that is; done gets the body of the answer. It runs once, on another goroutine.
	Forward(key, version int16, body []byte, done func(answer []byte, err error))
	// Quorum takes messages of another member of the metadata quorum; it does not block.
	Quorum(frame []byte) error
	// Members are those of the metadata quorum, as its leader sees them; done runs once, on any goroutine.
	Members(done func([]Member))
	// RemoveVoter takes a member out of it; done runs once, on any goroutine, when that is committed or will not be.
	RemoveVoter(node int32, dir [16]byte, done func(error))
}

// Member is one node of the metadata quorum.
type Member struct {
	ID    int32
	Dir   [16]byte
	Voter bool
	// Behind is how much of the log it is not known to have; -1 where nothing is known of it.
	Behind int64
	Heard  bool // from it, not long ago
	// Listener, Host and Port are where other nodes find it; Port is 0 where that is not known.
	Listener, Host string
	Port           uint16
}

// ProducerIDs gives ids to idempotent producers, from blocks that the controller has set aside for this broker.
type ProducerIDs interface {
	Next(done func(id int64, err error))
}

// Joins asks the coordinator of a transactional id, wherever it is: whether partitions are part of the transaction, or to make them so.
// Questions about one id are answered in their order.
type Joins interface {
	Join(id string, who txn.Producer, add []txn.Partition, done func(verdict func(txn.Partition) error))
	Verify(id string, who txn.Producer, ask []txn.Partition, done func(verdict func(txn.Partition) error))
}

// Markers writes the ends of transactions to partitions that this broker leads.
type Markers interface {
	Write(topic string, partition int32, m coordinator.Marker, done func(error))
}

// Lanes run calls away from the goroutine that has them to make: those of one key in their order.
type Lanes interface {
	Run(key int64, f func())
}

// Loggers are the broker's log levels by logger name.
type Loggers interface {
	Levels() map[string]string
	Set(levels map[string]string)
}

// Deps are what handlers call.
type Deps struct {
	NodeID      int32
	Image       func() *metadata.Image
	Values      func() *config.Values
	TopicValues func(topic string) *config.Values // with the topic's own settings
	Controller  Controller
	Cluster     Cluster
	Quorum      Quorum
	// Feed is the metadata log for those who follow it, on ClusterListener.
	Feed            *feed.Feed
	ClusterListener string
	Replicas        *replica.Manager
	Logs            *log.Manager
	Groups          *coordinator.Runtime[*group.Shard]
	Txns            *coordinator.Runtime[*txn.Shard]
	Joins           Joins
	Markers         Markers
	Appends         Lanes // of produce requests that had to wait, by producer
	Sessions        *fetchsession.Cache
	// ReplicaSessions are those of other brokers' fetchers, which no client's session drives out.
	ReplicaSessions *fetchsession.Cache
	Shares          *sharefetch.Manager
	ShareStates     *sharestate.Client
	ProducerIDs     ProducerIDs
	Loggers         Loggers
	Telemetry       *telemetry.Manager
	Clock           clock.Clock
	Logger          *slog.Logger
	// Advertised are the addresses told to clients by listener name. A listener without one tells a client the address
	// that it dialled.
	Advertised map[string]network.Endpoint
}

// Server answers requests.
type Server struct {
	Deps
	rows [128]*row
}

// New makes a server of its dependencies.
func New(d Deps) *Server {
	s := &Server{Deps: d}
	for i := range table {
		s.rows[table[i].Key] = &table[i]
	}
	return s
}

// address is where a client on conn should look for this broker.
func (s *Server) address(conn *network.Conn) (host string, port int32) {
	if e, ok := s.Advertised[conn.ListenerName()]; ok {
		return e.Host, int32(e.Port)
	}
	h, p, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "localhost", 0
	}
	n, _ := strconv.Atoi(p)
	return h, int32(n)
}

// brokerAddress is where a client on conn should look for a broker of the cluster.
func (s *Server) brokerAddress(conn *network.Conn, b *metadata.Broker) (host string, port int32, ok bool) {
	if b.ID == s.NodeID {
		host, port = s.address(conn)
		return host, port, true
	}
	e, ok := b.Endpoint(conn.ListenerName())
	return e.Host, int32(e.Port), ok
}
