package controller

import (
	"testing"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/private"
	"github.com/ottla/ottla/internal/wire/schema"
)

// ACLs, salted passwords and quotas come back as they were saved; producer ids go on above both clusters'; what is no part of it is refused.
func TestRestoreOfTheClustersOwn(t *testing.T) {
	frame := func(m schema.Message) []byte {
		b, err := schema.AppendMetadataRecord(nil, m, m.HighestVersion())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	user := "alice"
	acl := schema.NewAccessControlEntryRecord()
	acl.ID, acl.ResourceType, acl.ResourceName, acl.PatternType, acl.Principal, acl.Host, acl.Operation, acl.PermissionType = metadata.UUID{1}, 2, "t", 3, "User:alice", "*", 3, 3
	req := &private.RestoreMetadataRequest{Step: private.RestoreCluster, Restore: "r", Records: [][]byte{
		frame(acl),
		frame(&schema.UserScramCredentialRecord{Name: user, Mechanism: 1, Salt: []byte("salt"), StoredKey: []byte("stored"), ServerKey: []byte("server"), Iterations: 4096}),
		frame(&schema.ClientQuotaRecord{Entity: []schema.ClientQuotaRecordEntityData{{EntityType: "user", EntityName: &user}}, Key: "producer_byte_rate", Value: 10}),
		frame(&schema.ProducerIdsRecord{BrokerID: 7, BrokerEpoch: 9, NextProducerID: 5000}),
	}}
	c := New(1, nil)
	img := metadata.Empty("c")
	apply := func() int {
		records, err := c.Restore(img, req, Env{})
		if err != nil {
			t.Fatal(err)
		}
		d := metadata.NewDelta(img)
		for i, r := range records {
			if err := d.Replay(int64(i), 1, r.Message); err != nil {
				t.Fatal(err)
			}
		}
		img = d.Image()
		return len(records)
	}
	if n := apply(); n != 4 {
		t.Errorf("%d records", n)
	}
	got, _ := img.Scram().Get(metadata.ScramKey{User: user, Mechanism: 1})
	if got == nil || string(got.StoredKey) != "stored" || string(got.Salt) != "salt" {
		t.Errorf("the credential is %+v", got)
	}
	if a, ok := img.ACLs().Get(acl.ID); !ok || a.Principal != "User:alice" || img.Quotas().Len() != 1 || img.NextProducerID() != 5000 {
		t.Errorf("ACL %+v, %d quotas, next producer id %d", a, img.Quotas().Len(), img.NextProducerID())
	}
	if n := apply(); n != 2 { // credential and quota are written again, to the same effect
		t.Errorf("the second time %d records", n)
	}
	req.Records = [][]byte{frame(&schema.RemoveTopicRecord{})}
	if _, err := c.Restore(img, req, Env{}); err == nil {
		t.Error("a record that removes a topic was taken")
	}
}
