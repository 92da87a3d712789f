//go:build !unix

package network

import (
	"net"
	"syscall"
)

func rawConn(net.Conn) syscall.RawConn { return nil }

func (c *Conn) fillRaw() error { panic("BUG: no raw access on this platform") }
