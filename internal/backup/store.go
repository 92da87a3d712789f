package backup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Store is where backups lie. Names have slashes. Put is atomic and durable when it returns.
type Store interface {
	Put(ctx context.Context, name string, b []byte) error
	// Get fails with fs.ErrNotExist where there is nothing, and where it is longer than max bytes.
	Get(ctx context.Context, name string, max int64) ([]byte, error)
	// Size fails as Get does.
	Size(ctx context.Context, name string) (int64, error)
	List(ctx context.Context, prefix string) ([]string, error)
	Remove(ctx context.Context, name string) error
	String() string
}

// Open opens a store by the words a user has for it: a folder, or s3://bucket/prefix.
func Open(where string, getenv func(string) string) (Store, error) {
	switch {
	case where == "":
		return nil, errors.New("no place for backups is named: a folder, or s3://bucket/prefix")
	case strings.HasPrefix(where, "s3://"):
		return openS3(where, getenv)
	case strings.Contains(where, "://"):
		return nil, fmt.Errorf("%s: backups go to a folder or to s3://bucket/prefix", where)
	}
	return Folder(where), nil
}

// Folder is a store in a folder.
type Folder string

func (f Folder) String() string { return string(f) }

func (f Folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

// Put implements Store.
func (f Folder) Put(_ context.Context, name string, b []byte) error {
	to := f.path(name)
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(dir, ".tmp-"+rand.Text())
	w, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // salted passwords are inside
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err == nil {
		err = os.Rename(tmp, to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Store.
func (f Folder) Get(ctx context.Context, name string, max int64) ([]byte, error) {
	n, err := f.Size(ctx, name)
	if err != nil {
		return nil, err
	}
	if n > max {
		return nil, fmt.Errorf("%s has %d bytes, at most %d can be", f.path(name), n, max)
	}
	return os.ReadFile(f.path(name))
}

// Size implements Store.
func (f Folder) Size(_ context.Context, name string) (int64, error) {
	info, err := os.Stat(f.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// List implements Store.
func (f Folder) List(_ context.Context, prefix string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(f.path(prefix), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".tmp-") {
			return err
		}
		rel, err := filepath.Rel(string(f), p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}

// Remove implements Store.
func (f Folder) Remove(_ context.Context, name string) error { return os.Remove(f.path(name)) }

// putObject stores bytes under their hash, unless they are there.
func putObject(ctx context.Context, s Store, b []byte) (hash string, written bool, err error) {
	sum := sha256.Sum256(b)
	hash = hex.EncodeToString(sum[:])
	if n, err := s.Size(ctx, objectName(hash)); err == nil && n == int64(len(b)) {
		return hash, false, nil
	}
	return hash, true, s.Put(ctx, objectName(hash), b)
}

// getObject reads an object and checks its hash.
func getObject(ctx context.Context, s Store, c *Chunk) ([]byte, error) {
	b, err := s.Get(ctx, objectName(c.Hash), objectMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("object %s is missing in %s", c.Hash, s)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	if hex.EncodeToString(sum[:]) != c.Hash || int64(len(b)) != c.Bytes {
		return nil, fmt.Errorf("object %s of %s is damaged: its bytes do not have that hash", c.Hash, s)
	}
	return b, nil
}

func putManifest(ctx context.Context, s Store, m *Manifest) error {
	m.sum()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	end := partialEnd
	if m.Complete() {
		end = manifestEnd
	}
	return s.Put(ctx, manifestDir+m.ID+end, b)
}

// Manifests reads the manifests of a store, oldest first; those of unfinished backups are among them.
func Manifests(ctx context.Context, s Store) ([]*Manifest, error) {
	names, err := s.List(ctx, manifestDir)
	if err != nil {
		return nil, err
	}
	var out []*Manifest
	for _, n := range names {
		if !strings.HasSuffix(n, manifestEnd) {
			continue
		}
		b, err := s.Get(ctx, n, manifestMax)
		if err != nil {
			return nil, err
		}
		m, err := parseManifest(b)
		if err != nil {
			return nil, fmt.Errorf("the manifest %s in %s cannot be read: %w", n, s, err)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *Manifest) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Find gives the backup of an id, the newest finished one for "".
func Find(ctx context.Context, s Store, id string) (*Manifest, error) {
	all, err := Manifests(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, m := range slices.Backward(all) {
		if m.Complete() && (id == "" || m.ID == id) {
			return m, nil
		}
	}
	if id != "" {
		return nil, fmt.Errorf("%s holds no finished backup %s; `ottla backup list` names those that there are", s, id)
	}
	return nil, fmt.Errorf("%s holds no finished backup", s)
}

func idText(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseID(s string) (id [16]byte, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 16 {
		return id, fmt.Errorf("%q is no topic id", s)
	}
	return [16]byte(b), nil
}

// Choose gives the backup to restore: the one of an id; else for a point in time the oldest finished one that was begun after it, which holds
// most of what was there; else the newest.
func Choose(ctx context.Context, s Store, id string, at time.Time) (*Manifest, error) {
	if id != "" || at.IsZero() {
		return Find(ctx, s, id)
	}
	newest, err := Find(ctx, s, "")
	if err != nil {
		return nil, err
	}
	if newest.Started.Before(at) {
		return nil, fmt.Errorf("%s holds nothing as new as %s: its newest backup is of %s; make one with `ottla backup create`, or leave --at away", s, at.UTC().Format(time.RFC3339Nano), newest.Started.Format(time.RFC3339Nano))
	}
	all, err := Manifests(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Complete() && !m.Started.Before(at) {
			return m, nil
		}
	}
	return newest, nil
}
