//go:build !linux

package cli

import "syscall"

// childAttributes: where the system cannot tie a process to its parent, Ctrl-C reaches both.
func childAttributes() *syscall.SysProcAttr { return nil }
