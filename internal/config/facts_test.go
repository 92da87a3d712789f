package config

import (
	"os"
	"strings"
	"testing"
)

// The names, types, defaults, validators and modes are those of Apache Kafka 4.4, but for the few that differ.go lists.
func TestSameAsKafka(t *testing.T) {
	content, err := os.ReadFile("testdata/kafka-4.4.tsv")
	if err != nil {
		t.Fatal(err)
	}
	scope := map[string]Scope{"broker": Broker, "topic": Topic, "group": Group, "clientmetrics": ClientMetrics}
	counts := map[Scope]int{}
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		s, name := scope[f[0]], f[1]
		d, ok := Lookup(s, name)
		if !ok {
			t.Errorf("%s config %s is not declared", f[0], name)
			continue
		}
		counts[s]++
		if d.Own {
			t.Errorf("%s is marked as ours", name)
		}
		get := func(v string, ok bool) string {
			if !ok {
				return `\N`
			}
			return v
		}
		v, has, _ := d.KafkaDefault()
		same := func(what, got, want string) {
			if got != want {
				t.Errorf("%s %s: %s is %q, Kafka has %q", f[0], name, what, got, want)
			}
		}
		same("type", d.Type.String(), f[2])
		same("default", get(v, has), f[3])
		valid := `\N`
		if d.Valid != nil {
			valid = d.Valid.String()
		}
		same("validator", valid, f[4])
		if f[5] != `\N` {
			same("importance", d.Importance.String(), f[5])
		}
		if s == Broker && f[6] != `\N` {
			same("update mode", d.Update.String(), f[6])
		}
		if f[9] == "false" {
			same("sensitive", map[bool]string{true: "true", false: "false"}[d.Sensitive()], f[7])
		}
		same("internal", map[bool]string{true: "true", false: "false"}[d.Internal], f[9])
		if (d.Doc == "") == (d.NotYet == "") {
			t.Errorf("%s %s: needs either a sentence or the reason why it has no effect", f[0], name)
		}
	}
	if counts[Broker] != 383 || counts[Topic] != 38 || counts[Group] != 27 || counts[ClientMetrics] != 3 {
		t.Errorf("facts hold %v names", counts)
	}
	for s := Scope(0); s < scopes; s++ {
		n := 0
		for _, d := range All(s) {
			if d.Own {
				n++
				if d.Doc == "" {
					t.Errorf("%s has no sentence", d.Name)
				}
			}
		}
		if len(All(s)) != counts[s]+n {
			t.Errorf("%s: %d names, of them %d ours and %d Kafka's", s, len(All(s)), n, counts[s])
		}
	}
}
