package controller

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// UnregisterBroker forgets a broker that has gone for good. The broker that runs this controller stays.
func (c *Controller) UnregisterBroker(img *metadata.Image, req *kmsg.UnregisterBrokerRequest, _ Env) (Records, *kmsg.UnregisterBrokerResponse) {
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	b := img.Broker(req.BrokerID)
	var err error
	switch {
	case b == nil:
		err = wire.Errorf(kerr.BrokerIDNotRegistered, "Broker ID %d is not currently registered", req.BrokerID)
	case b.ID == c.node:
		err = wire.Errorf(kerr.InvalidRequest, "Broker %d answers this request; it cannot be unregistered while it runs.", b.ID)
	case !b.Fenced:
		err = wire.Errorf(kerr.InvalidRequest, "Broker %d is up; stop it before it is unregistered.", b.ID)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = status(err)
		return nil, resp
	}
	var records Records
	records.add(&schema.UnregisterBrokerRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch})
	return records, resp
}

// UnregisterController forgets a controller that has gone for good; such registrations come with the data of Apache Kafka.
func (c *Controller) UnregisterController(img *metadata.Image, req *kmsg.UnregisterControllerRequest, _ Env) (Records, *kmsg.UnregisterControllerResponse) {
	resp := kmsg.NewPtrUnregisterControllerResponse()
	var err error
	if _, known := img.Controllers()[req.ControllerID]; req.ControllerID == c.node {
		err = wire.Errorf(kerr.InvalidRequest, "Controller cannot unregister itself while it is active.")
	} else if !known {
		err = wire.Errorf(kerr.ControllerIDNotRegistered, "Controller ID %d is not currently registered.", req.ControllerID)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = status(err)
		return nil, resp
	}
	var records Records
	records.add(&schema.UnregisterControllerRecord{ControllerID: req.ControllerID})
	return records, resp
}

// Voter is one member of the quorum that keeps the metadata.
type Voter struct {
	ID  int32
	Dir metadata.UUID
}

func (v Voter) String() string {
	return fmt.Sprintf("ReplicaKey(id=%d, directoryId=%s)", v.ID, base64.RawURLEncoding.EncodeToString(v.Dir[:]))
}

// CheckVoters refuses a change of the quorum that cannot be: the cluster chooses who gets a vote, and the last voter cannot leave.
func CheckVoters(img *metadata.Image, now []Voter, clusterID *string, change Voter, add bool) error {
	names := make([]string, len(now))
	for i, v := range now {
		names[i] = v.String()
	}
	set := strings.Join(names, ", ")
	switch {
	case clusterID != nil && *clusterID != img.ClusterID():
		return wire.Errorf(kerr.InconsistentClusterID, "The given id \"%s\" doesn't match the cluster id \"%s\"", *clusterID, img.ClusterID())
	case add && slices.ContainsFunc(now, func(v Voter) bool { return v.ID == change.ID }):
		return wire.Errorf(kerr.DuplicateVoter, "The voter id for %s is already part of the set of voters [%s].", change, set)
	case add:
		return wire.Errorf(kerr.UnsupportedVersion, "The cluster chooses its voters itself: three once three brokers are up, five once five are.")
	case !slices.Contains(now, change):
		return wire.Errorf(kerr.VoterNotFound, "Cannot remove voter %s from the set of voters [%s]", change, set)
	case len(now) == 1:
		return wire.Errorf(kerr.InvalidRequest, "Voter %s is the only one; it cannot be removed.", set)
	}
	return nil
}
