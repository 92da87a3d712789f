package ottla_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla"
)

// A broker in memory, without a port, and a client that reaches it through the process.
func Example() {
	ctx := context.Background()
	b, err := ottla.Start(ctx, ottla.Options{InMemory: true, PipeOnly: true})
	if err != nil {
		panic(err)
	}
	defer b.Close(ctx)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dial), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("letters"))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "letters", Value: []byte("dear Franz")}).FirstErr(); err != nil {
		panic(err)
	}
	for _, r := range client.PollFetches(ctx).Records() {
		fmt.Printf("%s-%d at %d: %s\n", r.Topic, r.Partition, r.Offset, r.Value)
	}
	// Output: letters-0 at 0: dear Franz
}
