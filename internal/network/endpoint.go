package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// SecurityProtocol says how the bytes of a listener are protected and who proves an identity.
type SecurityProtocol string

// Kafka's four security protocols.
const (
	Plaintext     SecurityProtocol = "PLAINTEXT"
	SSL           SecurityProtocol = "SSL"
	SASLPlaintext SecurityProtocol = "SASL_PLAINTEXT"
	SASLSSL       SecurityProtocol = "SASL_SSL"
)

// TLS says whether the protocol encrypts.
func (p SecurityProtocol) TLS() bool { return p == SSL || p == SASLSSL }

// SASL says whether a connection starts unauthenticated.
func (p SecurityProtocol) SASL() bool { return p == SASLPlaintext || p == SASLSSL }

// Endpoint is one entry of `listeners` or `advertised.listeners`.
type Endpoint struct {
	Name     string // upper case
	Protocol SecurityProtocol
	Host     string // "" = every address of the machine
	Port     int    // 0 = any free port; never so in an advertised endpoint
}

// Address is host:port as net.Listen and net.Dial take it.
func (e Endpoint) Address() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

func (e Endpoint) String() string { return e.Name + "://" + e.Address() }

// ParseProtocolMap reads `listener.security.protocol.map` ("NAME:PROTOCOL,..."). The four protocols themselves are
// always names; an entry may say otherwise of them.
func ParseProtocolMap(s string) (map[string]SecurityProtocol, error) {
	m := map[string]SecurityProtocol{"PLAINTEXT": Plaintext, "SSL": SSL, "SASL_PLAINTEXT": SASLPlaintext, "SASL_SSL": SASLSSL, "CLUSTER": Plaintext}
	seen := map[string]bool{}
	for _, item := range splitList(s) {
		name, proto, ok := strings.Cut(item, ":")
		name = strings.ToUpper(strings.TrimSpace(name))
		if !ok || name == "" {
			return nil, fmt.Errorf("listener.security.protocol.map: %q is not NAME:PROTOCOL, for example INTERNAL:PLAINTEXT", item)
		}
		p := SecurityProtocol(strings.ToUpper(strings.TrimSpace(proto)))
		switch p {
		case Plaintext, SSL, SASLPlaintext, SASLSSL:
		default:
			return nil, fmt.Errorf("listener.security.protocol.map: %q is no security protocol; use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", proto)
		}
		if seen[name] {
			return nil, fmt.Errorf("listener.security.protocol.map: %s is mapped twice", name)
		}
		seen[name], m[name] = true, p
	}
	return m, nil
}

// ParseListeners reads `listeners` ("NAME://host:port,..."). Names are unique, and so are ports other than 0, unless
// one listens on an IPv4 and the other on an IPv6 address.
func ParseListeners(s string, protocols map[string]SecurityProtocol) ([]Endpoint, error) {
	const key = "listeners"
	eps, err := parseEndpoints(key, s, protocols)
	if err != nil {
		return nil, err
	}
	for i, a := range eps {
		for _, b := range eps[:i] {
			if a.Name == b.Name {
				return nil, fmt.Errorf("%s: two listeners are named %s; give each its own name and map it in listener.security.protocol.map", key, a.Name)
			}
			if a.Port == b.Port && a.Port != 0 && !differentFamilies(a.Host, b.Host) {
				return nil, fmt.Errorf("%s: %s and %s share port %d; every listener needs a port of its own", key, b, a, a.Port)
			}
		}
	}
	return eps, nil
}

// ParseAdvertised reads `advertised.listeners`: each entry names one of listeners and an address clients can dial.
// An empty s gives none: clients are then told the address they dialled.
func ParseAdvertised(s string, listeners []Endpoint, protocols map[string]SecurityProtocol) ([]Endpoint, error) {
	const key = "advertised.listeners"
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	eps, err := parseEndpoints(key, s, protocols)
	if err != nil {
		return nil, err
	}
	for i, e := range eps {
		ip, ipErr := netip.ParseAddr(e.Host)
		switch {
		case e.Host == "" || ipErr == nil && ip.IsUnspecified():
			return nil, fmt.Errorf("%s: %s names no machine that a client could dial; write a host name or an address, or leave %s empty to tell clients the address they dialled", key, e, key)
		case e.Port == 0:
			return nil, fmt.Errorf("%s: %s: port 0 cannot be dialled; write the port, or leave %s empty", key, e, key)
		}
		for _, b := range eps[:i] {
			if b.Name == e.Name {
				return nil, fmt.Errorf("%s: %s is advertised twice", key, e.Name)
			}
		}
		if !hasName(listeners, e.Name) {
			return nil, fmt.Errorf("%s: %s is not one of the listeners (%s)", key, e.Name, names(listeners))
		}
	}
	return eps, nil
}

func parseEndpoints(key, s string, protocols map[string]SecurityProtocol) ([]Endpoint, error) {
	items := splitList(s)
	if len(items) == 0 {
		return nil, fmt.Errorf("%s: no listener given; for example PLAINTEXT://:9092", key)
	}
	eps := make([]Endpoint, 0, len(items))
	for _, item := range items {
		e, err := parseEndpoint(item, protocols)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", key, item, err)
		}
		eps = append(eps, e)
	}
	return eps, nil
}

func parseEndpoint(item string, protocols map[string]SecurityProtocol) (Endpoint, error) {
	name, addr, ok := strings.Cut(item, "://")
	if !ok {
		return Endpoint{}, errors.New("write NAME://host:port, for example PLAINTEXT://:9092")
	}
	name = strings.ToUpper(strings.TrimSpace(name))
	proto, known := protocols[name]
	if !known {
		return Endpoint{}, fmt.Errorf("%q is neither a security protocol nor mapped to one; add %s:PLAINTEXT (or SSL, SASL_PLAINTEXT, SASL_SSL) to listener.security.protocol.map", name, name)
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q is not host:port (an IPv6 address stands in brackets, as in [::1]:9092)", addr)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return Endpoint{}, fmt.Errorf("%q is no port; use 0 (any free one) to 65535", portText)
	}
	if strings.ContainsAny(host, " /\\@?#") {
		return Endpoint{}, fmt.Errorf("%q is no host name or address", host)
	}
	return Endpoint{Name: name, Protocol: proto, Host: host, Port: port}, nil
}

func splitList(s string) []string {
	var out []string
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func differentFamilies(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x.Is4() != y.Is4()
}

func hasName(eps []Endpoint, name string) bool {
	for _, e := range eps {
		if e.Name == name {
			return true
		}
	}
	return false
}

func names(eps []Endpoint) string {
	var out []string
	for _, e := range eps {
		out = append(out, e.Name)
	}
	return strings.Join(out, ", ")
}

// ParsePerIPOverrides reads `max.connections.per.ip.overrides` ("address:limit,..."; an IPv6 address in brackets).
func ParsePerIPOverrides(s string) (map[netip.Addr]int, error) {
	const key = "max.connections.per.ip.overrides"
	m := map[netip.Addr]int{}
	for _, item := range splitList(s) {
		host, limitText, err := net.SplitHostPort(item)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not address:limit, for example 10.0.0.7:100 or [::1]:100", key, item)
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no IP address; names are not looked up", key, host)
		}
		limit, err := strconv.Atoi(limitText)
		if err != nil || limit < 0 {
			return nil, fmt.Errorf("%s: %q: the limit must be a number of at least 0", key, item)
		}
		m[ip.Unmap()] = limit
	}
	return m, nil
}
