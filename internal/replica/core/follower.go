package core

// Epochs is a log's knowledge of who wrote what.
type Epochs interface {
	// EpochEnd is the greatest known epoch at or below epoch, and where it ends in this log; -1, -1 where there is none.
	EpochEnd(epoch int32) (found int32, end int64)
}

// Truncation is where a follower cuts its log after its leader said that the logs part: the greatest epoch of the leader that is not
// above the follower's last is epoch, and ends at end there (KIP-279, KIP-595). The next fetch tells whether they still part. It
// never depends on the high watermark.
func Truncation(log Epochs, epoch int32, end, logEnd int64) int64 {
	found, own := log.EpochEnd(epoch)
	switch {
	case found < 0:
		return min(end, logEnd)
	case found == epoch:
		return min(own, end, logEnd)
	default:
		return min(own, logEnd) // an epoch that the leader has not: everything of it goes, and the leader is asked again
	}
}

// FollowerHighWatermark is what a follower knows to be committed when its leader says leader: no more than it has itself.
func FollowerHighWatermark(leader, durable int64) int64 { return min(leader, durable) }
