package controller

import (
	"slices"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// election says how far a change of a partition may go to give it a leader.
type election int8

const (
	electOnline    election = iota // keep a leader that is well, else take anybody who has everything
	electPreferred                 // the first replica, where it has everything
	electUnclean                   // anybody who is up, should nobody who is up have everything
)

// change works out one record for one partition: who is in sync, who else has everything (KIP-966) and who leads belong together, so
// they change together or not at all.
type change struct {
	topic *metadata.Topic
	n     int32
	p     *metadata.Partition

	isr      []int32 // as it is to be
	replicas []int32
	adding   []int32
	removing []int32
	dirs     []metadata.UUID // nil for no change
	recovery int8            // noRecoveryChange, or the state that a leader reports
	election election
	// acceptable says whether a replica may lead as far as its broker goes.
	acceptable func(id int32) bool
	// unclean are replicas that may lack what they had.
	unclean []int32
	// newEpoch asks for a new leader epoch although the leader stays.
	newEpoch bool
	minISR   int  // that can be asked for with these replicas
	wantISR  int  // that the topic asks for
	elr      bool // the feature is on
}

const noRecoveryChange = -1

func (c *Controller) newChange(img *metadata.Image, t *metadata.Topic, n int32) *change {
	p := t.Partitions[n]
	want := c.minISRof(img, t.Name)
	return &change{
		topic: t, n: n, p: p, isr: p.ISR, replicas: p.Replicas, adding: p.Adding, removing: p.Removing, recovery: noRecoveryChange,
		acceptable: func(id int32) bool { return active(img, id) },
		minISR:     min(want, len(p.Replicas)), wantISR: want, elr: img.Feature(eligibleLeaderReplicas) > 0,
	}
}

// record is what is to be written; nil when nothing changes.
func (ch *change) record() *schema.PartitionChangeRecord {
	ch.finishReassignment()
	p := ch.p
	r := schema.NewPartitionChangeRecord()
	r.TopicID, r.PartitionID = ch.topic.ID, ch.n
	elr, lastKnown := ch.eligible()
	leader, fromELR, unclean := ch.elect(elr, lastKnown)
	switch {
	case unclean:
		ch.isr, elr, lastKnown = []int32{leader}, []int32{}, []int32{}
		if p.RecoveryState != recovering {
			r.LeaderRecoveryState = recovering
		}
	case fromELR:
		ch.isr, elr = []int32{leader}, without(elr, leader)
		if len(ch.isr) >= ch.minISR {
			elr, lastKnown = []int32{}, []int32{}
		}
	}
	if len(ch.isr) == 0 && !ch.elr {
		ch.isr = p.ISR // somebody must be remembered as the one who has everything
	}
	if leader != p.Leader || ch.newEpoch || ch.dropsReplica() {
		r.Leader = leader
	}
	if !slices.Equal(ch.isr, p.ISR) {
		r.Isr = notNil(ch.isr)
	}
	if !slices.Equal(elr, p.ELR) {
		r.EligibleLeaderReplicas = notNil(elr)
	}
	if !slices.Equal(lastKnown, p.LastKnownELR) {
		r.LastKnownElr = notNil(lastKnown)
	}
	if !slices.Equal(ch.replicas, p.Replicas) {
		r.Replicas = ch.replicas
	}
	if !slices.Equal(ch.adding, p.Adding) {
		r.AddingReplicas = notNil(ch.adding)
	}
	if !slices.Equal(ch.removing, p.Removing) {
		r.RemovingReplicas = notNil(ch.removing)
	}
	if ch.dirs != nil {
		r.Directories = ch.dirs
	}
	if ch.recovery != noRecoveryChange && !unclean && ch.recovery != p.RecoveryState {
		r.LeaderRecoveryState = ch.recovery
	}
	if changesNothing(r) {
		return nil
	}
	return r
}

func notNil(list []int32) []int32 {
	if list == nil {
		return []int32{}
	}
	return list
}

func changesNothing(r *schema.PartitionChangeRecord) bool {
	return r.Leader == schema.NewPartitionChangeRecord().Leader && r.Isr == nil && r.EligibleLeaderReplicas == nil && r.LastKnownElr == nil && r.Replicas == nil &&
		r.AddingReplicas == nil && r.RemovingReplicas == nil && r.Directories == nil && r.LeaderRecoveryState < 0
}

// dropsReplica says that a replica leaves the partition: it must learn from a new leader epoch that it is none any more.
func (ch *change) dropsReplica() bool {
	return slices.ContainsFunc(ch.p.Replicas, func(id int32) bool { return !slices.Contains(ch.replicas, id) })
}

// finishReassignment ends a move once everybody who is to hold the partition is in sync and those who leave are not needed.
func (ch *change) finishReassignment() {
	if len(ch.adding)+len(ch.removing) == 0 {
		return
	}
	target := slices.DeleteFunc(slices.Clone(ch.replicas), func(id int32) bool { return slices.Contains(ch.removing, id) })
	isr := kept(ch.isr, target)
	for _, id := range ch.adding {
		if !slices.Contains(isr, id) {
			return
		}
	}
	if len(target) == 0 || len(isr) == 0 {
		return
	}
	dirs := ch.dirs
	if dirs == nil {
		dirs = ch.p.Directories
	}
	var left []metadata.UUID
	for i, id := range ch.replicas {
		if slices.Contains(target, id) && i < len(dirs) {
			left = append(left, dirs[i])
		}
	}
	if len(left) == len(target) && !slices.Equal(left, ch.p.Directories) {
		ch.dirs = left
	}
	ch.replicas, ch.isr, ch.adding, ch.removing = target, isr, []int32{}, []int32{}
	ch.minISR = min(ch.wantISR, len(target))
}

// eligible works out who has everything without being in sync: once fewer than min.insync.replicas are in sync nothing new can be
// committed, so whoever was in sync until then still has all there is.
func (ch *change) eligible() (elr, lastKnown []int32) {
	if !ch.elr || len(ch.isr) >= ch.minISR {
		return nil, nil
	}
	in := func(list []int32) func(int32) bool {
		return func(id int32) bool { return slices.Contains(list, id) }
	}
	add := func(to []int32, from ...int32) []int32 {
		for _, id := range from {
			if !in(to)(id) && !in(ch.isr)(id) && in(ch.replicas)(id) {
				to = append(to, id)
			}
		}
		return to
	}
	elr = slices.DeleteFunc(add(add(nil, ch.p.ELR...), ch.p.ISR...), in(ch.unclean))
	lastKnown = slices.DeleteFunc(add(add(add(nil, ch.p.LastKnownELR...), ch.p.ELR...), ch.p.ISR...), in(elr))
	return elr, lastKnown
}

// elect chooses the leader: -1 for nobody.
func (ch *change) elect(elr, lastKnown []int32) (leader int32, fromELR, unclean bool) {
	whole := func(id int32) bool {
		return ch.acceptable(id) && (slices.Contains(ch.isr, id) || ch.elr && slices.Contains(elr, id))
	}
	took := func(id int32) (int32, bool, bool) { return id, !slices.Contains(ch.isr, id), false }
	if ch.election == electPreferred && whole(ch.replicas[0]) {
		return took(ch.replicas[0])
	}
	if ch.p.Leader >= 0 && slices.Contains(ch.replicas, ch.p.Leader) && whole(ch.p.Leader) {
		return took(ch.p.Leader)
	}
	for _, id := range ch.replicas { // in sync before eligible: those who are in sync stay so
		if slices.Contains(ch.isr, id) && whole(id) {
			return took(id)
		}
	}
	for _, id := range ch.replicas {
		if whole(id) {
			return took(id)
		}
	}
	if ch.election == electUnclean {
		for _, list := range [][]int32{lastKnown, ch.replicas} {
			for _, id := range list {
				if ch.acceptable(id) && slices.Contains(ch.replicas, id) {
					return id, false, true
				}
			}
		}
	}
	return -1, false, false
}

// minISRof is min.insync.replicas of a topic.
func (c *Controller) minISRof(img *metadata.Image, topic string) int {
	values := c.Values(img)
	if set := img.Config(metadata.TopicConfig, topic); set[minISR] != "" {
		values = values.Topic(set)
		return int(config.TopicMinInsyncReplicas.Get(values))
	}
	return int(config.MinInsyncReplicas.Get(values))
}
