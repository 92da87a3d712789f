package store

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/magiconair/properties"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/vfs"
)

// MetaFile names the file that says to which cluster and node a log directory belongs.
const MetaFile = "meta.properties"

// maxSmallFile bounds the small files beside the log.
const maxSmallFile = 64 << 10

// Meta is the content of a directory's meta.properties.
type Meta struct {
	ClusterID   string
	NodeID      int32
	DirectoryID metadata.UUID
	extra       map[string]string // what other releases wrote, kept
}

// IDText is an id as Kafka writes it: base64url without padding.
func IDText(id metadata.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseID reads what IDText wrote.
func ParseID(s string) (id metadata.UUID, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no id of 22 base64url characters", s)
	}
	return metadata.UUID(b), nil
}

// ParseMeta reads a meta.properties file, version 0 or 1. Missing keys are zero; node.id -1 when missing.
func ParseMeta(content []byte) (Meta, error) {
	m := Meta{NodeID: -1, extra: map[string]string{}}
	l := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	p, err := l.LoadBytes(content)
	if err != nil {
		return m, err
	}
	version := ""
	for _, key := range p.Keys() {
		value, _ := p.Get(key)
		value = strings.TrimSpace(value)
		switch key {
		case "version":
			version = value
		case "cluster.id":
			if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
				return m, fmt.Errorf("cluster.id is %q, not an id of printable ASCII", value)
			}
			m.ClusterID = value
		case "node.id", "broker.id":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 0 {
				return m, fmt.Errorf("%s is %q, not a number from 0 on", key, value)
			}
			m.NodeID = int32(n)
		case "directory.id":
			if m.DirectoryID, err = ParseID(value); err != nil {
				return m, fmt.Errorf("directory.id: %w", err)
			}
		default:
			m.extra[key] = value
		}
	}
	if version != "0" && version != "1" {
		return m, fmt.Errorf("version is %q, expected 1", version)
	}
	return m, nil
}

// Append writes the file's content.
func (m Meta) Append(dst []byte) []byte {
	dst = fmt.Appendf(dst, "#\nnode.id=%d\ndirectory.id=%s\nversion=1\ncluster.id=%s\n", m.NodeID, IDText(m.DirectoryID), m.ClusterID)
	if len(m.extra) > 0 {
		p := properties.NewProperties()
		p.DisableExpansion = true
		for k, v := range m.extra {
			_, _, _ = p.Set(k, v)
		}
		p.Sort()
		var b bytes.Buffer
		_, _ = p.Write(&b, properties.UTF8)
		dst = append(dst, b.Bytes()...)
	}
	return dst
}

// ReadMeta reads a directory's file; ok is false when there is none.
func ReadMeta(f vfs.FS, dir string) (m Meta, ok bool, err error) {
	name := path.Join(dir, MetaFile)
	content, err := readFile(f, name, maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err == nil {
		m, err = ParseMeta(content)
	}
	if err != nil {
		return m, false, fmt.Errorf("%s: %w; restore it, or empty the directory if it holds nothing of worth", name, err)
	}
	return m, true, nil
}

func readFile(f vfs.FS, name string, limit int64) ([]byte, error) {
	file, err := f.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are read", name, size, limit)
	}
	b := make([]byte, size)
	if n, err := file.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, err
	}
	return b, nil
}

// replaceFile puts content in place of a file. With durable, old or new content survives a crash, and the new once
// it returns; without, the content is as good as a guess after a crash.
func replaceFile(f vfs.FS, name string, content []byte, durable bool) error {
	tmp := name + ".tmp"
	file, err := f.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(content, 0)
	if err == nil && durable {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := f.Rename(tmp, name); err != nil {
		return err
	}
	if durable {
		return f.SyncDir(path.Dir(name))
	}
	return nil
}

// makeDir makes a directory and its parents, and makes durable the names of those that it made.
func makeDir(f vfs.FS, dir string) error {
	var made []string
	for d := path.Clean(dir); ; d = path.Dir(d) {
		if _, err := f.Stat(d); err == nil || d == path.Dir(d) {
			break
		}
		made = append(made, d)
	}
	if err := f.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range made {
		if err := f.SyncDir(path.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}
