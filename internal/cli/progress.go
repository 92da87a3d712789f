package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a long work is: a bar on a terminal, a line for each part of the work elsewhere.
type progress struct {
	w   io.Writer
	bar *progressbar.ProgressBar
}

func (c *command) progress() *progress { return &progress{w: c.env.Stderr} }

// Start begins a part of the work; a negative total is not known.
func (p *progress) Start(what, unit string, total int64) {
	f, ok := p.w.(*os.File)
	if ok {
		info, err := f.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if !ok {
		fmt.Fprintf(p.w, "%s: %d %s\n", what, total, unit)
		p.bar = nil
		return
	}
	opts := []progressbar.Option{progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(what), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100e6), progressbar.OptionSetPredictTime(true), progressbar.OptionShowCount()}
	if unit == "bytes" {
		opts = append(opts, progressbar.OptionShowBytes(true))
	}
	p.bar = progressbar.NewOptions64(total, opts...)
}

// Add says that n more are done.
func (p *progress) Add(n int64) {
	if p.bar != nil {
		_ = p.bar.Add64(n)
	}
}

// Done ends the part.
func (p *progress) Done() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}
