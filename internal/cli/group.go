package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *command) group() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "List, describe, seek and delete consumer groups"}
	cmd.AddCommand(c.groupList(), c.groupDescribe(), c.groupSeek(), c.groupDelete())
	return cmd
}

func (c *command) groupList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List groups", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.withClient(cmd, func(ctx context.Context, cl *kgo.Client) error {
			rows, err := listGroups(ctx, cl)
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(rows)
			}
			return c.table("GROUP STATE TYPE COORDINATOR", func(out func(...any)) {
				for _, r := range rows {
					out(r.Group, r.State, r.Type, r.Coordinator)
				}
			})
		})
	}}
}

type listedGroup struct {
	Group       string `json:"group"`
	State       string `json:"state"`
	Type        string `json:"type"`
	Coordinator int32  `json:"coordinator"`
}

// listGroups asks every broker for the groups it coordinates.
func listGroups(ctx context.Context, cl *kgo.Client) ([]listedGroup, error) {
	rows := []listedGroup{}
	for _, shard := range cl.RequestSharded(ctx, kmsg.NewPtrListGroupsRequest()) {
		if shard.Err != nil {
			return nil, fmt.Errorf("listing the groups of broker %d: %w", shard.Meta.NodeID, shard.Err)
		}
		resp := shard.Resp.(*kmsg.ListGroupsResponse)
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return nil, fmt.Errorf("listing the groups of broker %d: %w", shard.Meta.NodeID, err)
		}
		for _, g := range resp.Groups {
			rows = append(rows, listedGroup{g.Group, g.GroupState, g.GroupType, shard.Meta.NodeID})
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Group < rows[j].Group })
	return rows, nil
}

type memberRow struct {
	ID         string             `json:"member_id"`
	InstanceID *string            `json:"instance_id,omitempty"`
	ClientID   string             `json:"client_id"`
	Host       string             `json:"host"`
	Assigned   map[string][]int32 `json:"assigned"`
}

type lagRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
	Member    string `json:"member,omitempty"`
}

type groupRow struct {
	Group   string      `json:"group"`
	Type    string      `json:"type"`
	State   string      `json:"state"`
	Members []memberRow `json:"members"`
	Offsets []lagRow    `json:"offsets"`
	Lag     int64       `json:"lag"`
}

func (c *command) groupDescribe() *cobra.Command {
	return &cobra.Command{Use: "describe GROUP...", Short: "Show members, committed offsets and lag", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.withClient(cmd, func(ctx context.Context, cl *kgo.Client) error {
			var rows []groupRow
			for _, g := range args {
				row, err := describeGroup(ctx, cl, g)
				if err != nil {
					return groupError(g, err)
				}
				rows = append(rows, row)
			}
			if c.json() {
				return c.printJSON(rows)
			}
			for _, g := range rows {
				fmt.Fprintf(c.env.Stdout, "group %s  type %s  state %s  members %d  lag %d\n", g.Group, g.Type, g.State, len(g.Members), g.Lag)
				err := c.table("TOPIC PARTITION COMMITTED END LAG MEMBER", func(out func(...any)) {
					for _, o := range g.Offsets {
						out(o.Topic, o.Partition, dash(o.Committed), dash(o.End), dash(o.Lag), o.Member)
					}
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}}
}

func dash(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// groupMembers describes a group of either protocol.
func groupMembers(ctx context.Context, cl *kgo.Client, group string) (groupRow, error) {
	row := groupRow{Group: group, Members: []memberRow{}, Offsets: []lagRow{}}
	listed, err := listGroups(ctx, cl)
	if err != nil {
		return row, err
	}
	i := slices.IndexFunc(listed, func(l listedGroup) bool { return l.Group == group })
	if i < 0 {
		return row, kerr.GroupIDNotFound
	}
	adm := kadm.NewClient(cl)
	row.Type, row.State = listed[i].Type, listed[i].State
	if strings.EqualFold(row.Type, "consumer") {
		described, err := adm.DescribeConsumerGroups(ctx, group)
		if err != nil {
			return row, err
		}
		d := described[group]
		if d.Err != nil {
			return row, d.Err
		}
		row.State = d.State
		for _, m := range d.Members {
			assigned := map[string][]int32{}
			for t, ps := range m.Assignment {
				for p := range ps {
					assigned[t] = append(assigned[t], p)
				}
				slices.Sort(assigned[t])
			}
			row.Members = append(row.Members, memberRow{ID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, Host: m.ClientHost, Assigned: assigned})
		}
		return row, nil
	}
	if strings.EqualFold(row.Type, "streams") {
		return row, streamsMembers(ctx, cl, &row)
	}
	if isShare(row.Type) {
		return row, shareMembers(ctx, cl, &row)
	}
	described, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return row, err
	}
	d := described[group]
	if d.Err != nil {
		return row, d.Err
	}
	row.State = d.State
	for _, m := range d.Members {
		assigned := map[string][]int32{}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				assigned[t.Topic] = t.Partitions
			}
		}
		row.Members = append(row.Members, memberRow{ID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, Host: m.ClientHost, Assigned: assigned})
	}
	return row, nil
}

func describeGroup(ctx context.Context, cl *kgo.Client, group string) (groupRow, error) {
	row, err := groupMembers(ctx, cl, group)
	if err != nil {
		return row, err
	}
	adm := kadm.NewClient(cl)
	committed, lags, err := groupOffsets(ctx, cl, group, row.Type)
	if err != nil {
		return row, err
	}
	owner := map[topicPartition]string{}
	for _, m := range row.Members {
		for t, ps := range m.Assigned {
			for _, p := range ps {
				owner[topicPartition{t, p}] = m.ID
			}
		}
	}
	topics := map[string]bool{}
	for t := range committed {
		topics[t] = true
	}
	for tp := range owner {
		topics[tp.topic] = true
	}
	names := make([]string, 0, len(topics))
	for t := range topics {
		names = append(names, t)
	}
	if len(names) == 0 {
		return row, nil
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return row, err
	}
	ends.Each(func(l kadm.ListedOffset) {
		o, has := committed.Lookup(l.Topic, l.Partition)
		member, owned := owner[topicPartition{l.Topic, l.Partition}]
		if !has && !owned {
			return
		}
		r := lagRow{Topic: l.Topic, Partition: l.Partition, Committed: -1, End: l.Offset, Lag: -1, Member: member}
		if l.Err != nil {
			r.End = -1
		}
		if has && o.At >= 0 {
			r.Committed = o.At
			if r.End >= 0 {
				r.Lag = max(r.End-o.At, 0)
				if lag, ok := lags[topicPartition{l.Topic, l.Partition}]; ok && lag >= 0 {
					r.Lag = lag // a share group has decided some of them already
				}
				row.Lag += r.Lag
			}
		}
		row.Offsets = append(row.Offsets, r)
	})
	sort.Slice(row.Offsets, func(i, j int) bool {
		a, b := row.Offsets[i], row.Offsets[j]
		return a.Topic < b.Topic || a.Topic == b.Topic && a.Partition < b.Partition
	})
	return row, nil
}

func (c *command) groupSeek() *cobra.Command {
	var topics []string
	var to string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "seek GROUP", Short: "Move a group's committed offsets; members of a live group are made to rejoin and go on from there", Args: cobra.ExactArgs(1),
		Example: "  ottla group seek billing --topic flights --to start\n  ottla group seek billing --topic flights:0,1 --to @-1h --dry-run",
	}
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "topic, or topic:partition,partition (repeatable); default: every topic the group has committed")
	cmd.Flags().StringVar(&to, "to", "", "start, end, N, -N (N before the end) or @time")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show")
	_ = cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		spec, err := parseOffset(to, time.Now())
		if err != nil {
			return err
		}
		cl, err := c.client(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
		defer cancel()
		return c.seek(ctx, cl, args[0], topics, spec, dryRun)
	}
	return cmd
}

// groupOffsets are a group's offsets; of a share group those from where on it has records to decide, with its lags.
func groupOffsets(ctx context.Context, cl *kgo.Client, group, kind string) (kadm.OffsetResponses, map[topicPartition]int64, error) {
	if isShare(kind) {
		return shareStarts(ctx, cl, group)
	}
	committed, err := kadm.NewClient(cl).FetchOffsets(ctx, group)
	return committed, nil, err
}

// groupKind is a group's type, "" where it is not there.
func groupKind(ctx context.Context, cl *kgo.Client, group string) (string, error) {
	listed, err := listGroups(ctx, cl)
	if err != nil {
		return "", err
	}
	for _, l := range listed {
		if l.Group == group {
			return l.Type, nil
		}
	}
	return "", nil
}

func (c *command) seek(ctx context.Context, cl *kgo.Client, group string, topics []string, spec offsetSpec, dryRun bool) error {
	adm := kadm.NewClient(cl)
	kind, err := groupKind(ctx, cl, group)
	if err != nil {
		return err
	}
	committed, _, err := groupOffsets(ctx, cl, group, kind)
	if err != nil {
		return groupError(group, err)
	}
	want, err := seekTargets(topics, committed)
	if err != nil {
		return groupError(group, err)
	}
	names := make([]string, 0, len(want))
	for t := range want {
		names = append(names, t)
	}
	if err := topicsExist(ctx, adm, names); err != nil {
		return err
	}
	target, err := spec.resolve(ctx, adm, names)
	if err != nil {
		return err
	}
	var moves kadm.Offsets = map[string]map[int32]kadm.Offset{}
	rows := []lagRow{}
	target.Each(func(l kadm.ListedOffset) {
		if ps := want[l.Topic]; l.Err == nil && (ps == nil || ps[l.Partition]) {
			moves.Add(kadm.Offset{Topic: l.Topic, Partition: l.Partition, At: l.Offset, LeaderEpoch: -1})
			rows = append(rows, lagRow{Topic: l.Topic, Partition: l.Partition, Committed: l.Offset})
		}
	})
	if len(rows) == 0 {
		return errors.New("no partition matches")
	}
	if !dryRun {
		if err := commitOver(ctx, cl, group, kind, moves); err != nil {
			return groupError(group, err)
		}
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].Topic < rows[j].Topic || rows[i].Topic == rows[j].Topic && rows[i].Partition < rows[j].Partition
	})
	if c.json() {
		type out struct {
			Topic     string `json:"topic"`
			Partition int32  `json:"partition"`
			Offset    int64  `json:"offset"`
		}
		var outs []out
		for _, r := range rows {
			outs = append(outs, out{r.Topic, r.Partition, r.Committed})
		}
		return c.printJSON(map[string]any{"group": group, "committed": !dryRun, "offsets": outs})
	}
	return c.table("TOPIC PARTITION OFFSET", func(out func(...any)) {
		for _, r := range rows {
			out(r.Topic, r.Partition, r.Committed)
		}
	})
}

// seekTargets maps each topic to the partitions to move; nil means all of them.
func seekTargets(topics []string, committed kadm.OffsetResponses) (map[string]map[int32]bool, error) {
	want := map[string]map[int32]bool{}
	for _, t := range topics {
		name, list, some := strings.Cut(t, ":")
		if !some {
			want[name] = nil
			continue
		}
		want[name] = map[int32]bool{}
		for _, p := range strings.Split(list, ",") {
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%q is not topic:partition,partition", t)
			}
			want[name][int32(n)] = true
		}
	}
	if len(topics) == 0 {
		for t := range committed {
			want[t] = nil
		}
		if len(want) == 0 {
			return nil, errors.New("it has committed nothing yet; name topics with --topic")
		}
	}
	return want, nil
}

// seekTries bounds how often members that come back before the commit are removed again.
const seekTries = 10

// commitOver commits as nobody, which only an empty group accepts: the members of a live one are removed first. They learn
// of it at their next heartbeat, rejoin and read the offsets committed in between.
func commitOver(ctx context.Context, cl *kgo.Client, group, kind string, moves kadm.Offsets) error {
	adm := kadm.NewClient(cl)
	commit := func() error {
		if isShare(kind) {
			return alterShare(ctx, cl, group, moves)
		}
		resp, err := adm.CommitOffsets(ctx, group, moves)
		if err == nil {
			err = resp.Error()
		}
		return err
	}
	var last error
	for range seekTries {
		err := commit()
		if err == nil {
			return nil
		}
		live := isShare(kind) && errors.Is(err, kerr.NonEmptyGroup) || errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.StaleMemberEpoch)
		if !live {
			return err
		}
		last = err
		if err := removeMembers(ctx, cl, group); err != nil {
			return err
		}
	}
	return fmt.Errorf("its members came back faster than the offsets could be committed, %d times: %w", seekTries, last)
}

func removeMembers(ctx context.Context, cl *kgo.Client, group string) error {
	row, err := groupMembers(ctx, cl, group)
	if err != nil {
		return err
	}
	if strings.EqualFold(row.Type, "consumer") {
		for _, m := range row.Members {
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = group, m.ID, -1, m.InstanceID
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return err
			}
			if err := kerr.ErrorForCode(resp.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownMemberID) {
				return err
			}
		}
		return nil
	}
	if strings.EqualFold(row.Type, "streams") {
		return removeStreamsMembers(ctx, cl, &row)
	}
	if isShare(row.Type) {
		return removeShareMembers(ctx, cl, &row)
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	reason := "the group's offsets are being moved"
	for _, m := range row.Members {
		lm := kmsg.NewLeaveGroupRequestMember()
		lm.MemberID, lm.InstanceID, lm.Reason = m.ID, m.InstanceID, &reason
		req.Members = append(req.Members, lm)
	}
	if len(req.Members) == 0 {
		return nil
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

func (c *command) groupDelete() *cobra.Command {
	var force bool
	cmd := &cobra.Command{Use: "delete GROUP...", Short: "Delete groups and their offsets", Args: cobra.MinimumNArgs(1)}
	cmd.Flags().BoolVar(&force, "force", false, "remove the members of a live group first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := c.client(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
		defer cancel()
		adm := kadm.NewClient(cl)
		var errs []error
		deleted := []string{}
		for _, g := range args {
			if force {
				if err := removeMembers(ctx, cl, g); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
					errs = append(errs, groupError(g, err))
					continue
				}
			}
			resp, err := adm.DeleteGroup(ctx, g)
			if err == nil {
				err = resp.Err
			}
			if err != nil {
				if errors.Is(err, kerr.NonEmptyGroup) {
					err = fmt.Errorf("%w; stop its members, or remove them with --force", err)
				}
				errs = append(errs, groupError(g, err))
				continue
			}
			deleted = append(deleted, g)
			if !c.json() {
				fmt.Fprintf(c.env.Stdout, "deleted group %s\n", g)
			}
		}
		if c.json() {
			errs = append(errs, c.printJSON(map[string]any{"deleted": deleted}))
		}
		return errors.Join(errs...)
	}
	return cmd
}
