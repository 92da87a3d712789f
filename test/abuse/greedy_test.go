package abuse

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Clients that send and send and never read a response: what waits for them is bounded, and others are served.
func TestResponsesThatNobodyReads(t *testing.T) {
	b, _ := start(t, nil)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range 10 {
		if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 500, 1, nil, fmt.Sprintf("wide-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.SetVersion(9)
	configs := kmsg.NewPtrDescribeConfigsRequest()
	configs.SetVersion(4)
	configs.IncludeSynonyms, configs.IncludeDocumentation = true, true
	for i := range 10 {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, fmt.Sprintf("wide-%d", i)
		configs.Resources = append(configs.Resources, r)
	}
	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	dirs.SetVersion(4)
	var greedy []net.Conn
	var wg sync.WaitGroup
	for _, req := range []kmsg.Request{metadata, configs, dirs} {
		one := request(req)
		var burst []byte
		for range 200 {
			burst = append(burst, one...)
		}
		for range 30 {
			c := dial(t, b)
			greedy = append(greedy, c)
			wg.Go(func() { _, _ = c.Write(burst) })
		}
	}
	for range 5 {
		serves(t, b)
	}
	memory(t, b, 640<<20) // of which request memory is 128, and the rest what the garbage collector has not looked at
	for _, c := range greedy {
		c.Close()
	}
	wg.Wait()
	serves(t, b)
}
