package config

// Why a name has no effect yet.
const (
	replication  = "arrives with clusters of several brokers"
	security     = "arrives with authentication, authorisation and TLS"
	transactions = "arrives with transactions"
	shareGroups  = "arrives with share groups"
	tiering      = "arrives with tiered storage"
	quotas       = "arrives with quotas"
	javaOnly     = "names a class or a part of the Java platform; ignored"
	notNeeded    = "tunes threads, purges or caches that this broker does not have; ignored"
)

// hidden marks a row of later as internal.
const hidden = true

func row(s Scope, t Type, name, value string, v Validator, i Importance, u Update, internal ...bool) *Def {
	return &Def{Name: name, Scope: s, Type: t, def: value, Valid: v, Importance: i, Update: u, Internal: len(internal) > 0}
}

// later declares names without a key, and why nobody reads them.
func later(why string, rows ...*Def) struct{} {
	for _, d := range rows {
		d.NotYet = why
		declare(d)
	}
	return struct{}{}
}
