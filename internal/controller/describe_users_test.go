package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// world of credentials and quotas, as another release may have written them.
func imageWith(t *testing.T, records ...schema.Message) *metadata.Image {
	d := metadata.NewDelta(metadata.Empty("cluster"))
	for i, r := range records {
		if err := d.Replay(int64(i), 1, r); err != nil {
			t.Fatal(err)
		}
	}
	return d.Image()
}

func TestDescribeUserScram(t *testing.T) {
	img := imageWith(t, &schema.UserScramCredentialRecord{Name: "a", Mechanism: 2, Iterations: 8192}, &schema.UserScramCredentialRecord{Name: "a", Mechanism: 1, Iterations: 4096},
		&schema.UserScramCredentialRecord{Name: "b", Mechanism: 1, Iterations: 5000})
	for _, c := range []struct{ ask, want string }{
		{"", "a: 0 [1:4096 2:8192]; b: 0 [1:5000]"},
		{"b", "b: 0 [1:5000]"},
		{"x b", "b: 0 [1:5000]; x: 91 Attempt to describe a user credential that does not exist: x []"},
		{"a a b", "a: 92 Cannot describe SCRAM credentials for the same user twice in a single request: a []; b: 0 [1:5000]"},
	} {
		req := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
		for _, u := range strings.Fields(c.ask) {
			req.Users = append(req.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: u})
		}
		var got []string
		for _, r := range DescribeUserScram(img, req).Results {
			var infos []string
			for _, i := range r.CredentialInfos {
				infos = append(infos, fmt.Sprintf("%d:%d", i.Mechanism, i.Iterations))
			}
			got = append(got, line(r.User, r.ErrorCode, r.ErrorMessage)+" ["+strings.Join(infos, " ")+"]")
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%q: %s", c.ask, s)
		}
	}
}

func TestDescribeClientQuotas(t *testing.T) {
	quota := func(key string, value float64, entity ...string) schema.Message {
		r := &schema.ClientQuotaRecord{Key: key, Value: value}
		for _, e := range entity {
			typ, name, ok := strings.Cut(e, "=")
			d := schema.ClientQuotaRecordEntityData{EntityType: typ}
			if ok {
				d.EntityName = &name
			}
			r.Entity = append(r.Entity, d)
		}
		return r
	}
	img := imageWith(t, quota("producer_byte_rate", 1, "user=u"), quota("consumer_byte_rate", 2, "user=u"), quota("producer_byte_rate", 3, "user=u", "client-id=c"),
		quota("producer_byte_rate", 4, "user"), quota("connection_creation_rate", 5, "ip=10.0.0.1"))
	type comp = kmsg.DescribeClientQuotasRequestComponent
	for _, c := range []struct {
		name   string
		comps  []comp
		strict bool
		want   string
	}{
		{"all", nil, false, "client-id=c user=u: producer_byte_rate=3; ip=10.0.0.1: connection_creation_rate=5; user=u: consumer_byte_rate=2 producer_byte_rate=1; user: producer_byte_rate=4"},
		{"none", nil, true, ""},
		{"a user", []comp{{EntityType: "user", Match: ptr("u")}}, false, "client-id=c user=u: producer_byte_rate=3; user=u: consumer_byte_rate=2 producer_byte_rate=1"},
		{"a user alone", []comp{{EntityType: "user", Match: ptr("u")}}, true, "user=u: consumer_byte_rate=2 producer_byte_rate=1"},
		{"the default user", []comp{{EntityType: "user", MatchType: 1}}, true, "user: producer_byte_rate=4"},
		{"users", []comp{{EntityType: "user", MatchType: 2}}, true, "user=u: consumer_byte_rate=2 producer_byte_rate=1; user: producer_byte_rate=4"},
		{"both", []comp{{EntityType: "user", MatchType: 2}, {EntityType: "client-id", Match: ptr("c")}}, false, "client-id=c user=u: producer_byte_rate=3"},
		{"absent", []comp{{EntityType: "user", Match: ptr("x")}}, false, ""},
		{"empty type", []comp{{}}, false, "42 Invalid empty entity type."},
		{"twice", []comp{{EntityType: "user", MatchType: 2}, {EntityType: "user", MatchType: 1}}, false, "42 Entity type user cannot appear more than once in the filter."},
		{"type", []comp{{EntityType: "nope", MatchType: 2}}, false, "35 Unsupported entity type nope"},
		{"match", []comp{{EntityType: "user", MatchType: 9}}, false, "42 Unknown match type 9"},
		{"no name", []comp{{EntityType: "user"}}, false, "42 Request specified MATCH_TYPE_EXACT, but set match string to null."},
		{"default with a name", []comp{{EntityType: "user", MatchType: 1, Match: ptr("x")}}, false, "42 Request specified MATCH_TYPE_DEFAULT, but also specified a match string."},
		{"any with a name", []comp{{EntityType: "user", MatchType: 2, Match: ptr("x")}}, false, "42 Request specified MATCH_TYPE_SPECIFIED, but also specified a match string."},
		{"ip and user", []comp{{EntityType: "ip", MatchType: 2}, {EntityType: "user", MatchType: 2}}, false, "42 Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component."},
	} {
		req := kmsg.NewPtrDescribeClientQuotasRequest()
		req.Components, req.Strict = c.comps, c.strict
		resp := DescribeClientQuotas(img, req)
		var got []string
		for _, e := range resp.Entries {
			var entity, values []string
			for _, d := range e.Entity {
				if d.Name == nil {
					entity = append(entity, d.Type)
				} else {
					entity = append(entity, d.Type+"="+*d.Name)
				}
			}
			for _, v := range e.Values {
				values = append(values, fmt.Sprintf("%s=%v", v.Key, v.Value))
			}
			got = append(got, strings.Join(entity, " ")+": "+strings.Join(values, " "))
		}
		s := strings.Join(got, "; ")
		if resp.ErrorCode != 0 {
			if s = fmt.Sprint(resp.ErrorCode, " ", *resp.ErrorMessage); resp.Entries != nil {
				t.Errorf("%s: entries beside an error", c.name)
			}
		}
		if s != c.want {
			t.Errorf("%s: %s", c.name, s)
		}
	}
}

func TestUnregisterController(t *testing.T) {
	img := imageWith(t, &schema.RegisterControllerRecord{ControllerID: 1}, &schema.RegisterControllerRecord{ControllerID: 7})
	c := New(1, config.MustNew(nil))
	for _, x := range []struct {
		id   int32
		want string
	}{
		{9, "136 Controller ID 9 is not currently registered."},
		{1, "42 Controller cannot unregister itself while it is active."},
		{7, "0"},
	} {
		req := kmsg.NewPtrUnregisterControllerRequest()
		req.ControllerID = x.id
		records, resp := c.UnregisterController(img, req, Env{})
		if got := strings.TrimPrefix(line("", resp.ErrorCode, resp.ErrorMessage), ": "); got != x.want {
			t.Errorf("%d: %s", x.id, got)
		}
		if len(records) != 0 && x.id != 7 || x.id == 7 && imageWith(t, &schema.RegisterControllerRecord{ControllerID: 7}, records[0].Message).Controllers()[7] != nil {
			t.Errorf("%d: %v", x.id, records)
		}
	}
}
