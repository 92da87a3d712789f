package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// UpdateFeatures: v0-2. Raises or lowers the levels of features that the cluster has agreed on (KIP-584, KIP-1022). v0 only raises; v2 answers
// once for all features.

func updateFeatures(c *Call, q *kmsg.UpdateFeaturesRequest) {
	propose(c, "update-features", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.UpdateFeaturesResponse) {
		return ctl.UpdateFeatures(img, q, env)
	}, func(err error) *kmsg.UpdateFeaturesResponse {
		resp := kmsg.NewPtrUpdateFeaturesResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		return resp
	})
}
