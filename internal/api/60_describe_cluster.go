package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: v0-2. v1: brokers (endpoint type 1) or controllers (2, asked of a controller only). v2: fenced brokers too.

const brokerEndpoints = 1

func describeCluster(c *Call, q *kmsg.DescribeClusterRequest) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	img := c.Image()
	resp.EndpointType, resp.ClusterID, resp.ControllerID, resp.ClusterAuthorizedOperations = brokerEndpoints, img.ClusterID(), c.NodeID, operationsUnknown
	if c.Version >= 1 && q.EndpointType != brokerEndpoints {
		message := "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
		resp.ErrorCode = kerr.MismatchedEndpointType.Code
		if q.EndpointType != 2 {
			resp.ErrorCode = kerr.UnsupportedEndpointType.Code
			message = "Unsupported endpoint type " + itoa(int64(q.EndpointType))
		}
		resp.ErrorMessage, resp.ControllerID = &message, -1
		c.Reply(resp)
		return
	}
	if q.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	for _, b := range img.Brokers() {
		host, port, ok := c.brokerAddress(c.Req.Conn, b)
		if !ok || b.Fenced && !q.IncludeFencedBrokers {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack, rb.IsFenced = b.ID, host, port, b.Rack, b.Fenced
		resp.Brokers = append(resp.Brokers, rb)
	}
	c.Reply(resp)
}
