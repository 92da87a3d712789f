package config

import (
	"strconv"
	"strings"
	"time"
)

// Share groups: what members are given, for how long and how often, and where goes what nobody can use.
var (
	GroupShareMaxShareSessions = integer("group.share.max.share.sessions", "2000", atLeast(1), medium, readOnly,
		"Share sessions that this broker keeps open at a time.")
	GroupShareDeliveryCountLimit = integer("group.share.delivery.count.limit", "5", between(2, 10), medium, readOnly,
		"How often a record is delivered to a share group before it is archived, or goes to the dead-letter topic.")
	GroupShareMinDeliveryCountLimit = integer("group.share.min.delivery.count.limit", "2", between(2, 5), medium, readOnly,
		"Smallest value that a group may set for its delivery limit.")
	GroupShareMaxDeliveryCountLimit = integer("group.share.max.delivery.count.limit", "10", between(5, 25), medium, readOnly,
		"Largest value that a group may set for its delivery limit.")
	GroupSharePartitionMaxRecordLocks = integer("group.share.partition.max.record.locks", "2000", between(100, 10000), medium, readOnly,
		"Records that a share group may have in flight in one partition, from the first that is not decided to the last that was delivered.")
	GroupShareMinPartitionMaxRecordLocks = integer("group.share.min.partition.max.record.locks", "100", between(100, 2000), medium, readOnly,
		"Smallest value that a group may set for its records in flight.")
	GroupShareMaxPartitionMaxRecordLocks = integer("group.share.max.partition.max.record.locks", "4000", between(2000, 10000), medium, readOnly,
		"Largest value that a group may set for its records in flight.")
	GroupShareRecordLockDurationMs = integer("group.share.record.lock.duration.ms", "30000", between(1000, 3600000), medium, readOnly,
		"How long a member of a share group may keep a record before others get it.")
	GroupShareMinRecordLockDurationMs = integer("group.share.min.record.lock.duration.ms", "15000", between(1000, 30000), medium, readOnly,
		"Smallest value that a group may set for the length of a lease.")
	GroupShareMaxRecordLockDurationMs = integer("group.share.max.record.lock.duration.ms", "60000", between(30000, 3600000), medium, readOnly,
		"Largest value that a group may set for the length of a lease.")
	DeadLetterAutoCreate = boolean("errors.deadletterqueue.auto.create.topics.enable", "false", medium, clusterWide,
		"Whether a dead-letter topic that a share group names is made when it is needed.")
	DeadLetterTopicPrefix = text("errors.deadletterqueue.topic.name.prefix", "dlq.", nil, medium, clusterWide,
		"What the names of dead-letter topics must begin with; empty allows any.")
	TopicDeadLetterEnable = BoolKey{def(Topic, Boolean, "errors.deadletterqueue.group.enable", "false", nil, medium, clusterWide,
		"Whether share groups may write dead letters to this topic.")}
)

// Settings of one share group.
var (
	OneGroupShareAutoOffsetReset = StringKey{def(Group, String, "share.auto.offset.reset", "latest", resetStrategy{}, medium, clusterWide,
		"Where this share group begins in a partition that it has not read yet: latest, earliest, or by_duration: and an ISO 8601 duration before now.")}
	OneGroupShareDeliveryCountLimit = IntKey{def(Group, Int, "share.delivery.count.limit", "5", atLeast(2), medium, clusterWide,
		"How often a record is delivered to this share group before it is archived, or goes to the dead-letter topic.")}
	OneGroupShareIsolationLevel = StringKey{def(Group, String, "share.isolation.level", "read_uncommitted", in("read_committed", "read_uncommitted"), medium, clusterWide,
		"Whether this share group gets the records of transactions before they are committed, and of those that are aborted.")}
	OneGroupSharePartitionMaxRecordLocks = IntKey{def(Group, Int, "share.partition.max.record.locks", "2000", atLeast(100), medium, clusterWide,
		"Records that this share group may have in flight in one partition.")}
	OneGroupShareRecordLockDurationMs = IntKey{def(Group, Int, "share.record.lock.duration.ms", "30000", atLeast(1000), medium, clusterWide,
		"How long a member of this share group may keep a record before others get it.")}
	OneGroupShareRenew = BoolKey{def(Group, Boolean, "share.renew.acknowledge.enable", "true", nil, medium, clusterWide,
		"Whether members of this share group may lengthen their leases.")}
	OneGroupDeadLetterTopic = StringKey{def(Group, String, "errors.deadletterqueue.topic.name", "", nil, medium, clusterWide,
		"Topic that gets what this share group rejects or was delivered too often. Empty has none.")}
	OneGroupDeadLetterCopy = BoolKey{def(Group, Boolean, "errors.deadletterqueue.copy.record.enable", "false", nil, medium, clusterWide,
		"Whether a dead letter holds the record's key, value and headers, or only where it came from.")}

	OneGroupShareRedeliveryDelayMs = own(IntKey{def(Group, Int, "share.redelivery.delay.ms", "0", atLeast(0), medium, clusterWide,
		"How long a record that came back to this share group stays before it is delivered again; doubled with every further delivery. 0 delivers it at once.")})
	OneGroupShareRedeliveryDelayMaxMs = own(IntKey{def(Group, Int, "share.redelivery.delay.max.ms", "300000", atLeast(0), medium, clusterWide,
		"Longest delay that share.redelivery.delay.ms grows to.")})
	OneGroupShareOrder = own(StringKey{def(Group, String, "share.order", ShareOrderNone, in(ShareOrderNone, ShareOrderKey), medium, clusterWide,
		"Order in which this share group gets the records of a partition: none, or key, which delivers a record only when every earlier record of its key has been decided. Records without a key wait for nobody.")})
)

// The values of share.order.
const (
	ShareOrderNone = "none"
	ShareOrderKey  = "key"
)

// DurationReset reads the duration of a share.auto.offset.reset of the form by_duration:PnDTnHnMn.nS. ok is false for the other forms.
func DurationReset(value string) (d time.Duration, ok bool) {
	text, ok := strings.CutPrefix(value, "by_duration:")
	if !ok {
		return 0, false
	}
	unit := map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}
	from := 0
	text = strings.ToUpper(text)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == 'P' || c == 'T':
			from = i + 1
		case c >= 'A':
			n, _ := strconv.ParseFloat(text[from:i], 64)
			d += time.Duration(n * float64(unit[c]))
			from = i + 1
		}
	}
	return d, true
}
