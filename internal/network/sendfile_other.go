//go:build !linux

package network

import (
	"errors"
	"os"
)

const canSendfile = false

type fileSender struct{}

func (s *fileSender) init() {}

func (w *writer) sendMore(b []byte) error {
	_, err := w.c.nc.Write(b)
	return err
}

func (w *writer) sendFile(*os.File, int64, int64) error { return errors.ErrUnsupported }
