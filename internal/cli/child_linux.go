package cli

import "syscall"

// childAttributes make a broker of a cluster on this machine end with the command that started it, however that ends, and not at the same
// Ctrl-C: it is told to stop.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
