package record

import (
	"bytes"
	"errors"
	"io"
)

// ErrTooLarge is a payload that decompresses to more than is allowed.
var ErrTooLarge = errors.New("decompresses to more than is allowed")

// Unpack decompresses a payload that is not a batch, as clients compress what they push. It allocates what comes out and
// never much more than limit bytes; more than that is ErrTooLarge. Without compression the payload itself is given back.
func Unpack(c Codec, payload []byte, limit int) ([]byte, error) {
	if c == None {
		if len(payload) > limit {
			return nil, ErrTooLarge
		}
		return payload, nil
	}
	if c == Zstd { // a decoder sets its window aside before it has seen what comes out
		if shape, ok := zstdShape(payload); ok && !shape.single && shape.window > max(zstdWindowBytes, uint64(limit)) {
			return nil, ErrTooLarge
		}
	}
	var d decoder
	defer d.close()
	r, err := d.open(c, payload, int64(limit))
	if err == nil {
		var out bytes.Buffer
		if _, err = out.ReadFrom(io.LimitReader(r, int64(limit)+1)); err == nil && out.Len() > limit {
			return nil, ErrTooLarge
		}
		if err == nil {
			return out.Bytes(), nil
		}
	}
	var f *contentError
	if errors.As(err, &f) && f.fault == faultLimit {
		return nil, ErrTooLarge
	}
	return nil, err
}
