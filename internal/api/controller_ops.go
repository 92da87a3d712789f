package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
)

// propose runs one of the controller's operations and answers with its response once the records are committed and applied here;
// failed makes the response where they could not be.
func propose[R kmsg.Response](c *Call, name string, op func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, R), failed func(err error) R) {
	var resp R
	c.Controller.Submit(name, func(ctl *controller.Controller, img *metadata.Image, env controller.Env) controller.Records {
		var records controller.Records
		records, resp = op(ctl, img, env)
		return records
	}, func(err error) {
		if err != nil {
			resp = failed(err)
		}
		c.Reply(resp)
	})
}
