package backup_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ottla/ottla/internal/backup"
)

// A bucket holds a backup as a folder does.
func TestS3(t *testing.T) {
	mem := s3mem.New()
	must(t, mem.CreateBucket("backups"))
	srv := httptest.NewServer(gofakes3.New(mem).Server())
	defer srv.Close()
	env := map[string]string{"AWS_ENDPOINT_URL": srv.URL, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
	s, err := backup.Open("s3://backups/prod", func(k string) string { return env[k] })
	must(t, err)
	a := node(t)
	cl := client(t, a)
	create(t, cl, 1, nil, "t")
	produce(t, cl, "t", 0, "1", "2")
	save(t, a, s)
	produce(t, cl, "t", 0, "3")
	m := save(t, a, s)
	if m.NewBytes == 0 || m.NewBytes >= m.Bytes {
		t.Errorf("the second backup wrote %d of %d bytes", m.NewBytes, m.Bytes)
	}
	verified(t, s, m)
	found, err := backup.Find(t.Context(), s, "")
	must(t, err)
	b := node(t)
	restore(t, b, s, found, nil)
	if got := values(t, b, "t", 3); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("t has %q", got)
	}
	none, err := backup.Open("s3://nothing-here", func(k string) string { return env[k] })
	must(t, err)
	if _, err := backup.Create(t.Context(), backup.Options{Client: cl, Dial: a.Dial, Store: none}); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("a bucket that does not exist: %v", err)
	}
}
