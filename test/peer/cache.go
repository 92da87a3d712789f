package peer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrMissing marks a failure that is the machine's, not the broker's: a toolchain that is not installed or a registry
// that cannot be reached. Tests skip on it and print its text.
var ErrMissing = errors.New("missing toolchain")

// CacheDir is where fetched jars, packages and builds are kept: $OTTLA_CACHE, else ottla below the user's cache directory.
func CacheDir() (string, error) {
	if d := os.Getenv("OTTLA_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory, set OTTLA_CACHE: %w", err)
	}
	return filepath.Join(d, "ottla"), nil
}

// Cached returns the directory name-<hash of key> below the cache and fills it on first use: fill gets an empty
// directory, which takes its final name only when fill succeeded. Several processes may ask at once; one fills.
func Cached(name string, key []byte, fill func(dir string) error) (string, error) {
	root, err := CacheDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	sum := sha256.Sum256(key)
	final := filepath.Join(root, name+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(final, ".complete")); err == nil {
		return final, nil
	}
	unlock, err := lockFile(final + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(final, ".complete")); err == nil {
		return final, nil
	}
	if err := os.RemoveAll(final); err != nil {
		return "", err
	}
	if err := os.MkdirAll(final, 0o755); err != nil {
		return "", err
	}
	if err := fill(final); err != nil {
		os.RemoveAll(final)
		return "", fmt.Errorf("fill %s: %w", final, err)
	}
	// The directory is filled under its final name (virtual environments do not survive a rename); the marker makes it whole.
	return final, os.WriteFile(filepath.Join(final, ".complete"), nil, 0o644)
}

func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
