package backup

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Format is the number of the manifests' form.
const Format = 1

// Manifest says what a backup consists of.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"` // the time of its begin: ids sort as the backups were made
	ClusterID string    `json:"cluster_id"`
	Started   time.Time `json:"started"`
	Finished  time.Time `json:"finished,omitzero"` // zero while it is being made
	Parent    string    `json:"parent,omitempty"`  // the backup that this one reused objects of
	Topics    []*Topic  `json:"topics"`
	// Cluster is the object of the metadata records that belong to no topic; nil where the broker could not tell them.
	Cluster  *Chunk   `json:"cluster,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// NewBytes were written by this backup, Bytes are all of its objects.
	Bytes    int64 `json:"bytes"`
	NewBytes int64 `json:"new_bytes"`
}

// Topic is one topic of a backup.
type Topic struct {
	Name       string            `json:"name"`
	ID         [16]byte          `json:"-"`
	IDText     string            `json:"id"`
	Internal   bool              `json:"internal,omitempty"`
	Replicas   int16             `json:"replicas"`
	Configs    map[string]string `json:"configs,omitempty"`
	Partitions []*Partition      `json:"partitions"`
}

// Partition is one partition: the records from LogStart to End, End not included.
type Partition struct {
	Number      int32   `json:"partition"`
	LeaderEpoch int32   `json:"leader_epoch"`
	LogStart    int64   `json:"log_start"`
	End         int64   `json:"end"`
	Chunks      []Chunk `json:"chunks,omitempty"`
	// Since is when the oldest of the chunks was read.
	Since time.Time `json:"since,omitzero"`
}

// Chunk is one object: whole batches of a partition, in order.
type Chunk struct {
	Hash  string `json:"sha256"`
	Bytes int64  `json:"bytes"`
	First int64  `json:"first"` // base offset of the first batch
	Next  int64  `json:"next"`  // one past the last offset of the last batch
	// Earliest and Latest are the least and the largest of the batches' newest timestamps.
	Earliest int64 `json:"earliest_ms"`
	Latest   int64 `json:"latest_ms"`
}

// Complete says whether the backup was finished.
func (m *Manifest) Complete() bool { return !m.Finished.IsZero() }

// Topic finds a topic by name.
func (m *Manifest) Topic(name string) *Topic {
	for _, t := range m.Topics {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// base is where a restored partition's log begins: at its first batch, or empty at its end.
func (p *Partition) base() int64 {
	if len(p.Chunks) > 0 {
		return p.Chunks[0].First
	}
	return p.End
}

func (m *Manifest) sum() {
	m.Bytes = 0
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			for _, c := range p.Chunks {
				m.Bytes += c.Bytes
			}
		}
	}
}

const (
	objectDir    = "objects/"
	manifestDir  = "backups/"
	manifestEnd  = ".json"
	partialEnd   = ".partial.json"
	manifestMax  = 1 << 30
	idForm       = "20060102T150405.000Z"
	chunkBytes   = 16 << 20 // a chunk is closed once it has so many bytes
	fetchBytes   = 4 << 20
	appendBytes  = 4 << 20
	objectMax    = 512 << 20
	saveInterval = 2 * time.Second
)

func objectName(hash string) string { return objectDir + hash[:2] + "/" + hash }

func parseManifest(b []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Format != Format {
		return nil, fmt.Errorf("it has format %d, this program reads %d; a newer Ottla wrote it", m.Format, Format)
	}
	for _, t := range m.Topics {
		id, err := parseID(t.IDText)
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Name, err)
		}
		t.ID = id
		for n, p := range t.Partitions {
			if p == nil || int(p.Number) != n {
				return nil, fmt.Errorf("topic %s: partition %d stands out of order", t.Name, n)
			}
			for _, c := range p.Chunks {
				if len(c.Hash) != 64 || strings.ContainsAny(c.Hash, "/.") || c.Bytes < 0 || c.Bytes > objectMax {
					return nil, fmt.Errorf("topic %s partition %d names an object that cannot be", t.Name, n)
				}
			}
		}
	}
	return m, nil
}

func sortTopics(topics []*Topic) {
	slices.SortFunc(topics, func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
}
