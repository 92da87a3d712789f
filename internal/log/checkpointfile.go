package log

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Names of the files of a log dir and of a partition.
const (
	recoveryPointFile = "recovery-point-offset-checkpoint"
	logStartFile      = "log-start-offset-checkpoint"
	highWatermarkFile = "replication-offset-checkpoint"
	cleanShutdownFile = ".kafka_cleanshutdown"
	epochFile         = "leader-epoch-checkpoint"
	partitionMetaFile = "partition.metadata"
	metaFile          = "meta.properties"

	maxCheckpointBytes = 256 << 20
)

var errCheckpoint = errors.New("malformed checkpoint file")

// checkpointLines walks a checkpoint file of version 0: a version line, a count, then count lines of fields.
func checkpointLines(b []byte, fields int, fn func(f []string) error) error {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(make([]byte, 0, 4096), 64<<10)
	next := func() (string, bool) {
		if !sc.Scan() {
			return "", false
		}
		return strings.TrimSpace(sc.Text()), true
	}
	if v, ok := next(); !ok || v != "0" {
		return fmt.Errorf("%w: version %q where 0 is known", errCheckpoint, v)
	}
	line, _ := next()
	count, err := strconv.Atoi(line)
	if err != nil || count < 0 {
		return fmt.Errorf("%w: count %q", errCheckpoint, line)
	}
	for i := range count {
		line, ok := next()
		f := strings.Fields(line)
		if !ok || len(f) != fields {
			return fmt.Errorf("%w: line %d of %d is %q", errCheckpoint, i+1, count, line)
		}
		if err := fn(f); err != nil {
			return fmt.Errorf("%w: line %d is %q: %v", errCheckpoint, i+1, line, err)
		}
	}
	if line, ok := next(); ok && line != "" {
		return fmt.Errorf("%w: more lines than the %d announced", errCheckpoint, count)
	}
	return sc.Err()
}

// parseOffsets reads one of the checkpoint files of a log dir.
func parseOffsets(b []byte) (map[TopicPartition]int64, error) {
	m := map[TopicPartition]int64{}
	err := checkpointLines(b, 3, func(f []string) error {
		p, err := strconv.ParseInt(f[1], 10, 32)
		if err != nil || p < 0 || !legalTopic(f[0]) {
			return errors.New("no partition")
		}
		off, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil || off < 0 {
			return errors.New("no offset")
		}
		m[TopicPartition{f[0], int32(p)}] = off
		return nil
	})
	return m, err
}

// offsetLine is one line of such a file.
type offsetLine struct {
	tp     TopicPartition
	offset int64
}

func appendOffsets(dst []byte, lines []offsetLine) []byte {
	dst = fmt.Appendf(dst, "0\n%d\n", len(lines))
	for _, l := range lines {
		dst = append(dst, l.tp.Topic...)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, int64(l.tp.Partition), 10)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, l.offset, 10)
		dst = append(dst, '\n')
	}
	return dst
}

// parseEpochs reads a leader-epoch-checkpoint: epochs and start offsets both rise.
func parseEpochs(b []byte) ([]epochEntry, error) {
	var out []epochEntry
	err := checkpointLines(b, 2, func(f []string) error {
		epoch, err := strconv.ParseInt(f[0], 10, 32)
		if err != nil || epoch < 0 {
			return errors.New("no epoch")
		}
		start, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || start < 0 {
			return errors.New("no offset")
		}
		if n := len(out); n > 0 && (out[n-1].epoch >= int32(epoch) || out[n-1].start > start) {
			return errors.New("out of order")
		}
		out = append(out, epochEntry{int32(epoch), start})
		return nil
	})
	return out, err
}

func appendEpochs(dst []byte, entries []epochEntry) []byte {
	dst = fmt.Appendf(dst, "0\n%d\n", len(entries))
	for _, e := range entries {
		dst = fmt.Appendf(dst, "%d %d\n", e.epoch, e.start)
	}
	return dst
}

// parsePartitionMeta reads the topic id of a partition.metadata.
func parsePartitionMeta(b []byte) (id [16]byte, err error) {
	seen := false
	for line := range strings.Lines(string(b)) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			if strings.TrimSpace(line) == "" {
				continue
			}
			return id, fmt.Errorf("malformed %s: line %q", partitionMetaFile, line)
		}
		switch k, v = strings.TrimSpace(k), strings.TrimSpace(v); k {
		case "version":
			if v != "0" {
				return id, fmt.Errorf("malformed %s: version %q where 0 is known", partitionMetaFile, v)
			}
		case "topic_id":
			if id, err = parseUUID(v); err != nil {
				return id, fmt.Errorf("malformed %s: %w", partitionMetaFile, err)
			}
			seen = true
		}
	}
	if !seen {
		return id, fmt.Errorf("malformed %s: no topic_id", partitionMetaFile)
	}
	return id, nil
}

func appendPartitionMeta(dst []byte, id [16]byte) []byte {
	return fmt.Appendf(dst, "version: 0\ntopic_id: %s", formatUUID(id))
}

func parseUUID(s string) (id [16]byte, err error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) != 16 {
		return id, fmt.Errorf("%q is no id: 16 bytes in URL-safe base64 are wanted", s)
	}
	return [16]byte(b), nil
}

func formatUUID(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseDirID reads the directory id of a meta.properties; zero where there is none.
func parseDirID(b []byte) (id [16]byte, err error) {
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.TrimSpace(k) == "directory.id" {
			return parseUUID(strings.TrimSpace(v))
		}
	}
	return id, nil
}
