package streams

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

type (
	topology      = schema.StreamsGroupTopologyValue
	subtopology   = schema.StreamsGroupTopologyValueSubtopology
	topicInfo     = schema.StreamsGroupTopologyValueTopicInfo
	topicConfig   = schema.StreamsGroupTopologyValueTopicConfig
	copartitioned = schema.StreamsGroupTopologyValueCopartitionGroup
)

// topologyOf is a request's topology as the log keeps it: everything in order, so that members may name it in any. The
// request's strings may share its buffer, so they are copied.
func topologyOf(req *kmsg.StreamsGroupHeartbeatRequestTopology) *topology {
	t := &topology{Epoch: req.Epoch, Subtopologies: make([]subtopology, 0, len(req.Subtopologies))}
	for i := range req.Subtopologies {
		r := &req.Subtopologies[i]
		s := subtopology{
			SubtopologyID: strings.Clone(r.SubtopologyID), SourceTopics: cloneAll(r.SourceTopics), SourceTopicRegex: cloneAll(r.SourceTopicRegex),
			StateChangelogTopics: topicsOf(r.StateChangelogTopics), RepartitionSinkTopics: cloneAll(r.RepartitionSinkTopics),
			RepartitionSourceTopics: topicsOf(r.RepartitionSourceTopics), CopartitionGroups: make([]copartitioned, 0, len(r.CopartitionGroups)),
		}
		for j := range r.CopartitionGroups {
			c := &r.CopartitionGroups[j]
			s.CopartitionGroups = append(s.CopartitionGroups, sortedGroup(r, c))
		}
		slices.Sort(s.SourceTopics)
		slices.Sort(s.SourceTopicRegex)
		slices.Sort(s.RepartitionSinkTopics)
		slices.SortFunc(s.StateChangelogTopics, byName)
		slices.SortFunc(s.RepartitionSourceTopics, byName)
		t.Subtopologies = append(t.Subtopologies, s)
	}
	slices.SortFunc(t.Subtopologies, func(a, b subtopology) int { return strings.Compare(a.SubtopologyID, b.SubtopologyID) })
	return t
}

func byName(a, b topicInfo) int { return strings.Compare(a.Name, b.Name) }

// sortedGroup is a copartition group whose indexes are those of the topics in order. Indexes out of range have been
// refused before.
func sortedGroup(r *kmsg.StreamsGroupHeartbeatRequestTopologySubtopology, c *kmsg.StreamsGroupHeartbeatRequestTopologySubtopologyCopartitionGroup) copartitioned {
	index := func(names []string, at []int16) []int16 {
		rank := map[string]int16{}
		for i, n := range slices.Sorted(slices.Values(names)) {
			rank[n] = int16(i)
		}
		out := make([]int16, 0, len(at))
		for _, i := range at {
			out = append(out, rank[names[i]])
		}
		slices.Sort(out)
		return out
	}
	var repartition []string
	for i := range r.RepartitionSourceTopics {
		repartition = append(repartition, r.RepartitionSourceTopics[i].Topic)
	}
	return copartitioned{
		SourceTopics: index(r.SourceTopics, c.SourceTopics), SourceTopicRegex: index(r.SourceTopicRegex, c.SourceTopicRegex),
		RepartitionSourceTopics: index(repartition, c.RepartitionSourceTopics),
	}
}

func cloneAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.Clone(s)
	}
	return out
}

func topicsOf(list []kmsg.TopicInfo) []topicInfo {
	out := make([]topicInfo, 0, len(list))
	for i := range list {
		t := topicInfo{Name: strings.Clone(list[i].Topic), Partitions: list[i].NumPartitions, ReplicationFactor: list[i].ReplicationFactor, TopicConfigs: []topicConfig{}}
		for j := range list[i].Configs {
			c := &list[i].Configs[j]
			t.TopicConfigs = append(t.TopicConfigs, topicConfig{Key: strings.Clone(c.Key), Value: strings.Clone(c.Value)})
		}
		slices.SortFunc(t.TopicConfigs, func(a, b topicConfig) int { return strings.Compare(a.Key, b.Key) })
		out = append(out, t)
	}
	return out
}

func sameTopology(a, b *topology) bool {
	sameTopics := func(a, b []topicInfo) bool {
		return slices.EqualFunc(a, b, func(a, b topicInfo) bool {
			return a.Name == b.Name && a.Partitions == b.Partitions && a.ReplicationFactor == b.ReplicationFactor &&
				slices.EqualFunc(a.TopicConfigs, b.TopicConfigs, func(a, b topicConfig) bool { return a.Key == b.Key && a.Value == b.Value })
		})
	}
	return a.Epoch == b.Epoch && slices.EqualFunc(a.Subtopologies, b.Subtopologies, func(a, b subtopology) bool {
		return a.SubtopologyID == b.SubtopologyID && slices.Equal(a.SourceTopics, b.SourceTopics) && slices.Equal(a.SourceTopicRegex, b.SourceTopicRegex) &&
			slices.Equal(a.RepartitionSinkTopics, b.RepartitionSinkTopics) && sameTopics(a.StateChangelogTopics, b.StateChangelogTopics) &&
			sameTopics(a.RepartitionSourceTopics, b.RepartitionSourceTopics) && slices.EqualFunc(a.CopartitionGroups, b.CopartitionGroups, func(a, b copartitioned) bool {
			return slices.Equal(a.SourceTopics, b.SourceTopics) && slices.Equal(a.SourceTopicRegex, b.SourceTopicRegex) && slices.Equal(a.RepartitionSourceTopics, b.RepartitionSourceTopics)
		})
	})
}

// topicNames are all topics that a topology needs, in order, each once.
func topicNames(t *topology) []string {
	all := map[string]struct{}{}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		for _, n := range inputs(s) {
			all[n] = struct{}{}
		}
		for j := range s.StateChangelogTopics {
			all[s.StateChangelogTopics[j].Name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// configured is a topology with what the metadata says of its topics.
type configured struct {
	epoch  int32
	subs   []configuredSub // by id; nil where source topics are missing or do not fit
	create []kmsg.CreateTopicsRequestTopic
	status *kmsg.StreamsGroupHeartbeatResponseStatus // why nothing can be assigned; nil where all is in place
}

type configuredSub struct {
	id       string
	tasks    int32
	stateful bool
	source   *subtopology
}

func (c *configured) ready() bool { return c != nil && c.status == nil }

func (c *configured) sub(id string) *configuredSub {
	i, ok := slices.BinarySearchFunc(c.subs, id, func(s configuredSub, id string) int { return strings.Compare(s.id, id) })
	if !ok {
		return nil
	}
	return &c.subs[i]
}

// misfit is why a topology cannot be configured as the cluster is.
type misfit struct {
	code   int8
	detail string
}

func (m *misfit) Error() string { return m.detail }

func unfit(format string, args ...any) error {
	return &misfit{statusIncorrectPartitions, fmt.Sprintf(format, args...)}
}

// wrong is why a topology can never be configured.
func wrong(format string, args ...any) error {
	return wire.Errorf(kerr.StreamsInvalidTopology, format, args...)
}

// configure looks a topology's topics up. An error is of the topology itself; what the cluster lacks is in the status.
func configure(t *topology, img *metadata.Image) (*configured, error) {
	c := &configured{epoch: t.Epoch}
	if err := c.fill(t, img); err != nil {
		var m *misfit
		if !errors.As(err, &m) {
			return nil, err
		}
		c.subs, c.create, c.status = nil, nil, statusOf(m.code, m.detail)
		return c, nil
	}
	if len(c.create) > 0 {
		names := make([]string, 0, len(c.create))
		for i := range c.create {
			names = append(names, c.create[i].Topic)
		}
		c.status = statusOf(statusMissingInternal, "Internal topics are missing: "+summary(names))
	}
	return c, nil
}

func statusOf(code int8, detail string) *kmsg.StreamsGroupHeartbeatResponseStatus {
	s := kmsg.NewStreamsGroupHeartbeatResponseStatus()
	s.StatusCode, s.StatusDetail = code, detail
	return &s
}

// maxSummary is how many topics a status names.
const maxSummary = 10

func summary(names []string) string {
	if len(names) <= maxSummary {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:maxSummary], ", ") + " and " + strconv.Itoa(len(names)-maxSummary) + " additional topics"
}

func (c *configured) fill(t *topology, img *metadata.Image) error {
	var missing []string
	for i := range t.Subtopologies {
		for _, n := range t.Subtopologies[i].SourceTopics {
			if img.Topic(n) == nil {
				missing = append(missing, n)
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return &misfit{statusMissingSources, "Source topics " + summary(slices.Compact(missing)) + " are missing."}
	}
	d := &counts{topology: t, img: img, decided: map[string]int32{}}
	if err := d.decide(); err != nil {
		return err
	}
	internal := map[string]*kmsg.CreateTopicsRequestTopic{}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		tasks, err := d.largest(s)
		if err != nil {
			return err
		}
		c.subs = append(c.subs, configuredSub{id: s.SubtopologyID, tasks: tasks, stateful: len(s.StateChangelogTopics) > 0, source: s})
		for j := range s.RepartitionSourceTopics {
			r := &s.RepartitionSourceTopics[j]
			internal[r.Name] = creatable(r, d.decided[r.Name])
		}
		for j := range s.StateChangelogTopics {
			r := &s.StateChangelogTopics[j]
			internal[r.Name] = creatable(r, d.decided[r.Name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(internal)) {
		topic := img.Topic(name)
		switch want := internal[name]; {
		case topic == nil:
			c.create = append(c.create, *want)
		case int32(len(topic.Partitions)) != want.NumPartitions:
			return unfit("Existing topic %s has different number of partitions: expected %d, found %d", name, want.NumPartitions, len(topic.Partitions))
		}
	}
	return nil
}

func creatable(t *topicInfo, partitions int32) *kmsg.CreateTopicsRequestTopic {
	c := kmsg.NewCreateTopicsRequestTopic()
	c.Topic, c.NumPartitions, c.ReplicationFactor = t.Name, partitions, -1
	if t.ReplicationFactor != 0 {
		c.ReplicationFactor = t.ReplicationFactor
	}
	for i := range t.TopicConfigs {
		cc := kmsg.NewCreateTopicsRequestTopicConfig()
		cc.Name, cc.Value = t.TopicConfigs[i].Key, &t.TopicConfigs[i].Value
		c.Configs = append(c.Configs, cc)
	}
	return &c
}

// counts works out how many partitions the internal topics have.
type counts struct {
	topology *topology
	img      *metadata.Image
	decided  map[string]int32
}

func (d *counts) of(topic string) (int32, bool) {
	if t := d.img.Topic(topic); t != nil {
		return int32(len(t.Partitions)), true
	}
	n, ok := d.decided[topic]
	return n, ok
}

// largest is the number of tasks of a subtopology.
func (d *counts) largest(s *subtopology) (n int32, err error) {
	for _, name := range inputs(s) {
		p, ok := d.of(name)
		if !ok {
			return 0, wrong("No partition count for source topic %s", name)
		}
		n = max(n, p)
	}
	if n == 0 {
		return 0, wrong("No source topics found for subtopology %s", s.SubtopologyID)
	}
	return n, nil
}

// inputs are the topics that a subtopology reads.
func inputs(s *subtopology) []string {
	out := slices.Clone(s.SourceTopics)
	for i := range s.RepartitionSourceTopics {
		out = append(out, s.RepartitionSourceTopics[i].Name)
	}
	return out
}

func (d *counts) decide() error {
	fixed, flexible := map[string]bool{}, map[string]bool{}
	for i := range d.topology.Subtopologies {
		for _, r := range d.topology.Subtopologies[i].RepartitionSourceTopics {
			if r.Partitions != 0 {
				fixed[r.Name], d.decided[r.Name] = true, r.Partitions
			} else {
				flexible[r.Name] = true
			}
		}
	}
	if err := d.repartition(flexible); err != nil {
		return err
	}
	for i := range d.topology.Subtopologies {
		s := &d.topology.Subtopologies[i]
		for j := range s.CopartitionGroups {
			if err := d.copartition(members(s, &s.CopartitionGroups[j]), fixed, flexible); err != nil {
				return err
			}
		}
	}
	for i := range d.topology.Subtopologies {
		s := &d.topology.Subtopologies[i]
		n, err := d.largest(s)
		if err != nil {
			return err
		}
		for j := range s.StateChangelogTopics {
			d.decided[s.StateChangelogTopics[j].Name] = n
		}
	}
	return nil
}

// repartition gives a topic that nobody has set a number for as many partitions as the largest subtopology that writes to
// it has tasks. One may follow from the other, so it goes on until nothing is left. In a loop, what is known of those that
// are written by something outside it has to do.
func (d *counts) repartition(open map[string]bool) error {
	left, guess := slices.Sorted(maps.Keys(open)), false
	for len(left) > 0 {
		var rest []string
		for _, topic := range left {
			n, known, written := int32(0), true, false
			for i := range d.topology.Subtopologies {
				s := &d.topology.Subtopologies[i]
				if !slices.Contains(s.RepartitionSinkTopics, topic) {
					continue
				}
				written = true
				for _, in := range inputs(s) {
					p, ok := d.upstream(in, open)
					known = known && ok
					n = max(n, p)
				}
			}
			switch {
			case !written:
				return wrong("Failed to compute number of partitions for all repartition topics, because a repartition source topic is never used as a sink topic.")
			case known || guess && n > 0:
				d.decided[topic] = n
				guess = false
			default:
				rest = append(rest, topic)
			}
		}
		if len(rest) == len(left) && guess {
			return wrong("Failed to compute number of partitions for all repartition topics. There may be loops in the topology that cannot be resolved.")
		}
		guess = len(rest) == len(left)
		left = rest
	}
	return nil
}

// upstream is of for a topic that another one depends on: one that is to be worked out itself is not known from the
// metadata, else the order of things would change when it has been made.
func (d *counts) upstream(topic string, open map[string]bool) (int32, bool) {
	if open[topic] {
		n, ok := d.decided[topic]
		return n, ok
	}
	return d.of(topic)
}

// members are the topics of a copartition group, in order.
func members(s *subtopology, c *copartitioned) []string {
	var out []string
	for _, i := range c.SourceTopics {
		if int(i) < len(s.SourceTopics) {
			out = append(out, s.SourceTopics[i])
		}
	}
	for _, i := range c.RepartitionSourceTopics {
		if int(i) < len(s.RepartitionSourceTopics) {
			out = append(out, s.RepartitionSourceTopics[i].Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// copartition makes the topics of a group have one number of partitions: that of the topics which are not ours to make,
// else of those whose number the application has set, else the largest.
func (d *counts) copartition(topics []string, fixed, flexible map[string]bool) error {
	var given, set []string
	n := int32(0)
	for _, t := range topics {
		switch {
		case flexible[t]:
			n = max(n, d.decided[t])
		case fixed[t]:
			set = append(set, t)
		default:
			given = append(given, t)
		}
	}
	same := func(list []string) error {
		for _, t := range list {
			if p, _ := d.of(t); p != n {
				return unfit("Following topics do not have the same number of partitions: [%s]", d.listed(list))
			}
		}
		return nil
	}
	if base := slices.Concat(given, set); len(base) > 0 {
		if len(given) > 0 {
			base = given
		}
		n, _ = d.of(base[0])
		if err := same(base); err != nil {
			return err
		}
	}
	for _, t := range set {
		if d.decided[t] != n {
			return unfit("Number of partitions [%d] of repartition topic [%s] doesn't match number of partitions [%d] of the source topic.", d.decided[t], t, n)
		}
	}
	for _, t := range topics {
		if flexible[t] {
			d.decided[t] = n
		}
	}
	return nil
}

func (d *counts) listed(topics []string) string {
	var b strings.Builder
	for i, t := range topics {
		if i > 0 {
			b.WriteString(", ")
		}
		p, _ := d.of(t)
		fmt.Fprintf(&b, "%s=%d", t, p)
	}
	return "{" + b.String() + "}"
}
