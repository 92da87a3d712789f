package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Dial connects to an address.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// errNoTools is a broker that does not know Ottla's own messages.
var errNoTools = errors.New("the broker does not speak Ottla's own messages")

// toolConn is a connection for Ottla's own messages, one at a time: a Kafka client refuses keys that it does not know.
type toolConn struct {
	mu   sync.Mutex
	conn net.Conn
	id   int32
	buf  []byte
}

const responseMax = 1 << 30

// request sends one message and waits for its answer. After an error the connection is of no more use.
func (c *toolConn) request(ctx context.Context, req kmsg.Request, resp kmsg.Response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	c.id++
	c.buf = kmsg.NewRequestFormatter(kmsg.FormatterClientID("ottla-backup")).AppendRequest(c.buf[:0], req, c.id)
	if _, err := c.conn.Write(c.buf); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	var head [8]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errNoTools
		}
		return errors.Join(ctx.Err(), err)
	}
	n := int64(int32(binary.BigEndian.Uint32(head[:])))
	if n < 4 || n > responseMax || int32(binary.BigEndian.Uint32(head[4:])) != c.id {
		return fmt.Errorf("%w: it answered with %d bytes", errNoTools, n)
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return resp.ReadFrom(body)
}

// lane is one of a few connections to a broker.
type lane struct{ node, number int32 }

const lanes = 4

// cluster is what a backup and a restore know of the brokers: who leads what, and how to reach them.
type cluster struct {
	client *kgo.Client
	dial   Dial

	mu        sync.Mutex
	addrs     map[int32]string
	leaders   map[string][]int32
	conns     map[lane]*toolConn
	clusterID string
}

func newCluster(cl *kgo.Client, dial Dial) *cluster {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &cluster{client: cl, dial: dial, conns: map[lane]*toolConn{}}
}

func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.conns {
		_ = t.conn.Close()
	}
}

// refresh asks who leads what.
func (c *cluster) refresh(ctx context.Context) (*kmsg.MetadataResponse, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs, c.leaders = map[int32]string{}, map[string][]int32{}
	if resp.ClusterID != nil {
		c.clusterID = *resp.ClusterID
	}
	for _, b := range resp.Brokers {
		c.addrs[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	for _, t := range resp.Topics {
		if t.Topic == nil || t.ErrorCode != 0 {
			continue
		}
		leaders := make([]int32, len(t.Partitions))
		for _, p := range t.Partitions {
			if int(p.Partition) < len(leaders) {
				leaders[p.Partition] = p.Leader
			}
		}
		c.leaders[*t.Topic] = leaders
	}
	return resp, nil
}

// leader is who leads a partition as far as is known; -1 for nobody.
func (c *cluster) leader(topic string, partition int32) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.leaders[topic]; int(partition) < len(l) {
		return l[partition]
	}
	return -1
}

// tool sends one of Ottla's own messages to a broker; -1 is any.
func (c *cluster) tool(ctx context.Context, node, number int32, req kmsg.Request, resp kmsg.Response) error {
	conn, err := c.toolConn(ctx, lane{node, number % lanes})
	if err != nil {
		return err
	}
	if err = conn.request(ctx, req, resp); err != nil {
		c.mu.Lock()
		for n, have := range c.conns {
			if have == conn {
				delete(c.conns, n)
			}
		}
		c.mu.Unlock()
		_ = conn.conn.Close()
	}
	return err
}

func (c *cluster) toolConn(ctx context.Context, l lane) (*toolConn, error) {
	c.mu.Lock()
	have, addr := c.conns[l], c.addrs[l.node]
	if l.node < 0 {
		for _, a := range c.addrs {
			addr = a
		}
	}
	c.mu.Unlock()
	if have != nil {
		return have, nil
	}
	if addr == "" {
		return nil, fmt.Errorf("%w: no broker has id %d", kerr.LeaderNotAvailable, l.node)
	}
	conn, err := c.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have = c.conns[l]; have != nil {
		_ = conn.Close()
		return have, nil
	}
	have = &toolConn{conn: conn}
	c.conns[l] = have
	return have, nil
}
