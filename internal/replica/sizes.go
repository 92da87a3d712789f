package replica

import (
	"github.com/ottla/ottla/internal/log"
)

// Size is a replica's place and bytes on disk.
type Size struct {
	TP   log.TopicPartition
	Dir  string
	Size int64
}

// Sizes tells of every replica that has a log on disk.
func (m *Manager) Sizes() []Size {
	onDisk := map[log.TopicPartition]string{}
	for _, e := range m.logs.Existing() {
		onDisk[e.TopicPartition] = e.Dir
	}
	var out []Size
	for _, p := range m.Partitions() {
		l := p.opened.Load()
		if l == nil {
			if _, ok := onDisk[p.tp]; !ok {
				dirs := m.logs.Dirs()
				out = append(out, Size{p.tp, dirs[0].Path, 0})
				continue
			}
			var err error
			if l, err = p.Log(); err != nil {
				continue
			}
		}
		out = append(out, Size{p.tp, l.Dir(), l.Size()})
	}
	return out
}

// moveInline is how many bytes are moved before the answer; a larger log goes on in the background.
const moveInline = 16 << 20

// Move begins to move a replica to another log dir.
func (m *Manager) Move(tp log.TopicPartition, dir string) error {
	p, err := m.Replica(tp)
	if err != nil {
		return err
	}
	if l := p.opened.Load(); l == nil || l.Size() <= moveInline {
		return m.logs.MoveTo(m.ctx, tp, dir)
	}
	m.running.Add(1)
	go func() {
		defer m.running.Done()
		if err := m.logs.MoveTo(m.ctx, tp, dir); err != nil {
			m.logger.Error("a partition stays in its log dir", "topic", tp.Topic, "partition", tp.Partition, "to", dir, "error", err)
		} else {
			m.logger.Info("a partition has moved to another log dir", "topic", tp.Topic, "partition", tp.Partition, "to", dir)
		}
	}()
	return nil
}
