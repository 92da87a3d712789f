package log

import (
	"slices"
)

// partitionKey names a partition of one incarnation of a topic.
type partitionKey struct {
	id        [16]byte
	partition int32
}

// mark is a truncate marker: everything written before it, in journal order, with Next above to is void.
type mark struct {
	sequence uint64
	index    int // among the frames of its file
	to       int64
}

// oldFile is a file that the last run has left.
type oldFile struct {
	name     string
	sequence uint64
}

// readOld finds the files of the last run in the order in which they were written, and the markers in them. Files without a whole
// frame hold nothing.
func (j *journal) readOld() (files []oldFile, marks map[partitionKey][]mark, err error) {
	names, err := j.list()
	if err != nil {
		return nil, nil, err
	}
	marks = map[partitionKey][]mark{}
	for _, name := range names {
		b, err := j.content(name)
		if err != nil {
			return nil, nil, err
		}
		old := oldFile{name: name}
		n := 0
		walkFrames(b, func(f *journalFrame, kind byte, seq uint64) bool {
			old.sequence = seq
			if kind == frameTruncate {
				k := partitionKey{f.TopicID, f.Partition}
				marks[k] = append(marks[k], mark{seq, n, f.First})
			}
			n++
			return true
		})
		files = append(files, old)
		j.sequence = max(j.sequence, old.sequence)
	}
	slices.SortFunc(files, func(a, b oldFile) int {
		switch {
		case a.sequence < b.sequence:
			return -1
		case a.sequence > b.sequence:
			return 1
		}
		return 0
	})
	return files, marks, nil
}

// replayOld hands the frames that no later marker has taken back to apply.
func (j *journal) replayOld(files []oldFile, marks map[partitionKey][]mark, apply func(f *journalFrame) error) error {
	for _, old := range files {
		if old.sequence == 0 {
			continue
		}
		b, err := j.content(old.name)
		if err != nil {
			return err
		}
		n := 0
		walkFrames(b, func(f *journalFrame, kind byte, seq uint64) bool {
			index := n
			n++
			if kind != frameData || void(marks[partitionKey{f.TopicID, f.Partition}], seq, index, f.Next) {
				return true
			}
			err = apply(f)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func void(marks []mark, sequence uint64, index int, next int64) bool {
	for _, m := range marks {
		if (m.sequence > sequence || m.sequence == sequence && m.index > index) && next > m.to {
			return true
		}
	}
	return false
}
