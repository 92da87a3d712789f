package controller

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// DescribeUserScram says which SCRAM credentials the metadata holds, and with how many iterations: of the users that are asked for,
// or of all. It does not use the controller's state.
func DescribeUserScram(img *metadata.Image, req *kmsg.DescribeUserSCRAMCredentialsRequest) *kmsg.DescribeUserSCRAMCredentialsResponse {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	resp.ErrorMessage, resp.Results = new(string), []kmsg.DescribeUserSCRAMCredentialsResponseResult{}
	held := map[string][]kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo{}
	for k, c := range img.Scram().All() {
		held[k.User] = append(held[k.User], kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo{Mechanism: k.Mechanism, Iterations: c.Iterations})
	}
	var users []string
	for _, u := range req.Users {
		users = append(users, u.Name)
	}
	twice := duplicates(users)
	if len(req.Users) == 0 {
		users = slices.Collect(maps.Keys(held))
	}
	slices.Sort(users)
	for _, u := range slices.Compact(users) {
		r := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		r.User, r.CredentialInfos = u, []kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo{}
		var err error
		switch infos, ok := held[u]; {
		case slices.Contains(twice, u):
			err = wire.Errorf(kerr.DuplicateResource, "Cannot describe SCRAM credentials for the same user twice in a single request: %s", u)
		case !ok:
			err = wire.Errorf(kerr.ResourceNotFound, "Attempt to describe a user credential that does not exist: %s", u)
		default:
			slices.SortFunc(infos, func(a, b kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo) int {
				return int(a.Mechanism) - int(b.Mechanism)
			})
			r.CredentialInfos = infos
		}
		r.ErrorCode, r.ErrorMessage = status(err)
		resp.Results = append(resp.Results, r)
	}
	return resp
}

// quotaFilter is what a request for quotas looks for.
type quotaFilter struct {
	exact  map[string]*string // by entity type; nil is the default entity
	typed  []string           // any entity of the type
	strict bool               // and no other types
}

func newQuotaFilter(req *kmsg.DescribeClientQuotasRequest) (*quotaFilter, error) {
	f := &quotaFilter{exact: map[string]*string{}, strict: req.Strict}
	has := func(typ string) bool { _, ok := f.exact[typ]; return ok || slices.Contains(f.typed, typ) }
	for _, c := range req.Components {
		switch {
		case c.EntityType == "":
			return nil, wire.Errorf(kerr.InvalidRequest, "Invalid empty entity type.")
		case has(c.EntityType):
			return nil, wire.Errorf(kerr.InvalidRequest, "Entity type %s cannot appear more than once in the filter.", c.EntityType)
		case c.EntityType != "user" && c.EntityType != "client-id" && c.EntityType != "ip":
			return nil, wire.Errorf(kerr.UnsupportedVersion, "Unsupported entity type %s", c.EntityType)
		}
		switch c.MatchType {
		case kmsg.QuotasMatchTypeExact:
			if c.Match == nil {
				return nil, wire.Errorf(kerr.InvalidRequest, "Request specified MATCH_TYPE_EXACT, but set match string to null.")
			}
			f.exact[c.EntityType] = c.Match
		case kmsg.QuotasMatchTypeDefault:
			if c.Match != nil {
				return nil, wire.Errorf(kerr.InvalidRequest, "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.")
			}
			f.exact[c.EntityType] = nil
		case kmsg.QuotasMatchTypeAny:
			if c.Match != nil {
				return nil, wire.Errorf(kerr.InvalidRequest, "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.")
			}
			f.typed = append(f.typed, c.EntityType)
		default:
			return nil, wire.Errorf(kerr.InvalidRequest, "Unknown match type %d", c.MatchType)
		}
	}
	if has("ip") && (has("user") || has("client-id")) {
		return nil, wire.Errorf(kerr.InvalidRequest, "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.")
	}
	return f, nil
}

func (f *quotaFilter) matches(entity []schema.ClientQuotaRecordEntityData) bool {
	find := func(typ string) *schema.ClientQuotaRecordEntityData {
		for i := range entity {
			if entity[i].EntityType == typ {
				return &entity[i]
			}
		}
		return nil
	}
	if f.strict && len(entity) != len(f.exact)+len(f.typed) {
		return false
	}
	for typ, name := range f.exact {
		e := find(typ)
		if e == nil || (e.EntityName == nil) != (name == nil) || name != nil && *e.EntityName != *name {
			return false
		}
	}
	return !slices.ContainsFunc(f.typed, func(typ string) bool { return find(typ) == nil })
}

// DescribeClientQuotas says which quotas the metadata holds. It does not use the controller's state.
func DescribeClientQuotas(img *metadata.Image, req *kmsg.DescribeClientQuotasRequest) *kmsg.DescribeClientQuotasResponse {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	f, err := newQuotaFilter(req)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = status(err)
		return resp
	}
	resp.ErrorMessage, resp.Entries = new(string), []kmsg.DescribeClientQuotasResponseEntry{}
	quotas := map[string]*metadata.Quota{}
	for key, q := range img.Quotas().All() {
		if f.matches(q.Entity) {
			quotas[key] = q
		}
	}
	for _, key := range slices.Sorted(maps.Keys(quotas)) {
		e := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, d := range quotas[key].Entity {
			e.Entity = append(e.Entity, kmsg.DescribeClientQuotasResponseEntryEntity{Type: d.EntityType, Name: d.EntityName})
		}
		slices.SortFunc(e.Entity, func(a, b kmsg.DescribeClientQuotasResponseEntryEntity) int { return strings.Compare(a.Type, b.Type) })
		for _, k := range slices.Sorted(maps.Keys(quotas[key].Values)) {
			e.Values = append(e.Values, kmsg.DescribeClientQuotasResponseEntryValue{Key: k, Value: quotas[key].Values[k]})
		}
		resp.Entries = append(resp.Entries, e)
	}
	return resp
}
