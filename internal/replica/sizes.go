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

// Move moves a replica to another log dir.
func (m *Manager) Move(tp log.TopicPartition, dir string) error { return m.logs.MoveTo(tp, dir) }
