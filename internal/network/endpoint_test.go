package network

import (
	"strings"
	"testing"
)

func TestParseListeners(t *testing.T) {
	m, err := ParseProtocolMap("INTERNAL:SSL, external:sasl_ssl")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"PLAINTEXT://:9092":                         "PLAINTEXT://:9092 PLAINTEXT",
		"plaintext://localhost:0, ssl://[::1]:9093": "PLAINTEXT://localhost:0 PLAINTEXT,SSL://[::1]:9093 SSL",
		"INTERNAL://0.0.0.0:1,EXTERNAL://h.x:2":     "INTERNAL://0.0.0.0:1 SSL,EXTERNAL://h.x:2 SASL_SSL",
		"SSL://1.2.3.4:9092,INTERNAL://[::]:9092":   "SSL://1.2.3.4:9092 SSL,INTERNAL://[::]:9092 SSL",
		"SSL://:0,INTERNAL://:0":                    "SSL://:0 SSL,INTERNAL://:0 SSL",
	} {
		eps, err := ParseListeners(in, m)
		var got []string
		for _, e := range eps {
			got = append(got, e.String()+" "+string(e.Protocol))
		}
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"":                                  "no listener given",
		"localhost:9092":                    "NAME://host:port",
		"FOO://:9092":                       "add FOO:PLAINTEXT",
		"SSL://:99999":                      "is no port",
		"SSL://:x":                          "is no port",
		"SSL://host":                        "is not host:port",
		"SSL://::1:9092":                    "IPv6 address stands in brackets",
		"SSL://a b:1":                       "no host name",
		"SSL://:1,SSL://:2":                 "two listeners are named SSL",
		"SSL://:1,PLAINTEXT://:1":           "share port 1",
		"SSL://1.1.1.1:1,INTERNAL://:1":     "share port 1",
		"SSL://a:1/path":                    "is no port",
		"http://user@host:80,PLAINTEXT://:": "add HTTP:PLAINTEXT",
	} {
		if _, err := ParseListeners(in, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	for in, want := range map[string]string{"A": "NAME:PROTOCOL", "A:TLS": "no security protocol", "A:SSL,a:SSL": "mapped twice", ":SSL": "NAME:PROTOCOL"} {
		if _, err := ParseProtocolMap(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func TestParseAdvertised(t *testing.T) {
	m, _ := ParseProtocolMap("")
	ls, err := ParseListeners("PLAINTEXT://:9092,SSL://:9093", m)
	if err != nil {
		t.Fatal(err)
	}
	if eps, err := ParseAdvertised(" ", ls, m); err != nil || eps != nil {
		t.Fatal(eps, err)
	}
	if eps, err := ParseAdvertised("SSL://kafka.example:443,PLAINTEXT://[2001:db8::1]:443", ls, m); err != nil || len(eps) != 2 || eps[0].Address() != "kafka.example:443" {
		t.Fatal(eps, err)
	}
	for in, want := range map[string]string{
		"PLAINTEXT://:9092":             "no machine that a client could dial",
		"PLAINTEXT://0.0.0.0:9092":      "no machine that a client could dial",
		"PLAINTEXT://[::]:9092":         "no machine that a client could dial",
		"PLAINTEXT://h:0":               "cannot be dialled",
		"SASL_SSL://h:1":                "not one of the listeners (PLAINTEXT, SSL)",
		"PLAINTEXT://h:1,SSL://h:2,h:3": "NAME://host:port",
		"SSL://h:1,SSL://h:2":           "advertised twice",
	} {
		if _, err := ParseAdvertised(in, ls, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add("PLAINTEXT://:9092,SSL://[::1]:1", "A:SSL")
	f.Fuzz(func(t *testing.T, s, mapping string) {
		m, err := ParseProtocolMap(mapping)
		if err != nil {
			return
		}
		eps, err := ParseListeners(s, m)
		if err != nil {
			return
		}
		var again []string
		for _, e := range eps {
			again = append(again, e.String())
		}
		back, err := ParseListeners(strings.Join(again, ","), m)
		if err != nil || len(back) != len(eps) {
			t.Fatalf("%q: %v", again, err)
		}
		for i := range eps {
			if back[i] != eps[i] {
				t.Fatalf("%v became %v", eps[i], back[i])
			}
		}
	})
}
