package api

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/network"
)

// ApiVersions: v0-5. Says which APIs and versions are served, and the cluster's features.
//
// A version too new is answered in version 0 with UNSUPPORTED_VERSION and ApiVersions' own range only, so that the client
// can ask again (KIP-511). From v3 on the client must name its software. v5 names the cluster and node the client means to
// talk to (KIP-1242).

const (
	apiVersionsKey = 18
	apiVersionsMax = 5
)

var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func (s *Server) tooNewApiVersions(r *network.Request) bool {
	if r.Header.Version <= apiVersionsMax && r.Header.Version >= 0 {
		return false
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(0)
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = apiVersionsKey, 0, apiVersionsMax
	resp.ApiKeys = append(resp.ApiKeys, k)
	r.Respond(resp)
	return true
}

func apiVersions(c *Call, q *kmsg.ApiVersionsRequest) {
	resp := kmsg.NewPtrApiVersionsResponse()
	if c.Version >= 3 && (!softwareName.MatchString(q.ClientSoftwareName) || !softwareName.MatchString(q.ClientSoftwareVersion)) || c.wrongTarget(q) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		c.Reply(resp)
		return
	}
	if c.Version >= 3 {
		c.Req.Conn.SetClientSoftware(q.ClientSoftwareName, q.ClientSoftwareVersion)
	}
	for _, w := range c.rows {
		if w == nil || w.clusterOnly() && !c.ofCluster(c.Req.Conn) {
			continue
		}
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = w.Key, w.Min, w.Max
		if w.Key == produceKey {
			k.MinVersion = 0 // librdkafka takes a broker that does not know Produce v0 for one without compression (KIP-896)
		}
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	img := c.Image()
	resp.FinalizedFeaturesEpoch = img.Offset()
	for _, f := range controller.SupportedFeatures() {
		if c.Version < 4 && f.Min == 0 {
			continue // clients before v4 refuse a lowest level of 0
		}
		sf := kmsg.NewApiVersionsResponseSupportedFeature()
		sf.Name, sf.MinVersion, sf.MaxVersion = f.Name, f.Min, f.Max
		resp.SupportedFeatures = append(resp.SupportedFeatures, sf)
	}
	for _, f := range controller.FinalizedFeatures(img) {
		if f.Max == 0 {
			continue
		}
		ff := kmsg.NewApiVersionsResponseFinalizedFeature()
		ff.Name, ff.MinVersionLevel, ff.MaxVersionLevel = f.Name, f.Max, f.Max
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, ff)
	}
	c.Reply(resp)
}

// wrongTarget says whether the client means another cluster or node, or names only one of the two (KIP-1242).
func (c *Call) wrongTarget(q *kmsg.ApiVersionsRequest) bool {
	if c.Version < 5 || q.ClusterID == nil && q.NodeID < 0 {
		return false
	}
	return q.ClusterID == nil || *q.ClusterID != c.Image().ClusterID() || q.NodeID != c.NodeID
}
