package network

import (
	"encoding/binary"
	"fmt"
)

// foreign recognises the first four bytes of other protocols and makes the answer that their clients understand. nil where
// they are nothing known.
func foreign(size int, listener string) error {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(int32(size)))
	switch string(b[:]) {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "OPTI", "PATC", "CONN", "TRAC", "PRI ":
		const body = "This is a Kafka port: it speaks the Kafka protocol, not HTTP.\n" +
			"Point a Kafka client's bootstrap.servers here. The console, metrics and admin API are on the HTTP port.\n"
		return &closeError{
			reason: reasonHTTP,
			err:    fmt.Errorf("an HTTP request on the Kafka listener %s; point the HTTP client at the HTTP port, or a Kafka client here", listener),
			answer: fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body),
		}
	}
	if b[0] == 0x16 && b[1] == 0x03 { // a TLS record that carries a handshake
		return &closeError{
			reason: reasonTLS,
			err:    fmt.Errorf("a TLS handshake on the plaintext listener %s; set the client's security.protocol to PLAINTEXT, or use a listener with TLS", listener),
			answer: []byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 40}, // alert, fatal, handshake_failure
		}
	}
	return nil
}
