package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// formatter appends one record's text to dst.
type formatter func(dst []byte, r *kgo.Record) []byte

// parseFormat understands the tokens of kcat's -f: %s payload, %S its length (-1 for null), %k key, %K its length, %t topic,
// %p partition, %o offset, %T timestamp in ms, %h headers, %% and the escapes \n \r \t \\ \xHH.
func parseFormat(f string) (formatter, error) {
	var parts []formatter
	var lit []byte
	flush := func() {
		if len(lit) > 0 {
			text := string(lit)
			parts = append(parts, func(dst []byte, _ *kgo.Record) []byte { return append(dst, text...) })
			lit = nil
		}
	}
	for i := 0; i < len(f); i++ {
		switch {
		case f[i] == '\\' && i+1 < len(f):
			i++
			switch f[i] {
			case 'n':
				lit = append(lit, '\n')
			case 'r':
				lit = append(lit, '\r')
			case 't':
				lit = append(lit, '\t')
			case '\\':
				lit = append(lit, '\\')
			case 'x':
				if i+2 >= len(f) {
					return nil, fmt.Errorf("format %q: \\x wants two hex digits", f)
				}
				n, err := strconv.ParseUint(f[i+1:i+3], 16, 8)
				if err != nil {
					return nil, fmt.Errorf("format %q: \\x%s is not two hex digits", f, f[i+1:i+3])
				}
				lit = append(lit, byte(n))
				i += 2
			default:
				return nil, fmt.Errorf("format %q: the escape \\%c is not known; there are \\n \\r \\t \\\\ \\xHH", f, f[i])
			}
		case f[i] == '%':
			i++
			if i == len(f) {
				return nil, fmt.Errorf("format %q ends in a lone %%; write %%%% for a percent sign", f)
			}
			if f[i] == '%' {
				lit = append(lit, '%')
				continue
			}
			flush()
			p := token(f[i])
			if p == nil {
				return nil, fmt.Errorf("format %q: %%%c is not known; there are %%s %%S %%k %%K %%t %%p %%o %%T %%h %%%%", f, f[i])
			}
			parts = append(parts, p)
		default:
			lit = append(lit, f[i])
		}
	}
	flush()
	return func(dst []byte, r *kgo.Record) []byte {
		for _, p := range parts {
			dst = p(dst, r)
		}
		return dst
	}, nil
}

func lengthOf(b []byte) int64 {
	if b == nil {
		return -1
	}
	return int64(len(b))
}

func token(c byte) formatter {
	switch c {
	case 's':
		return func(dst []byte, r *kgo.Record) []byte { return append(dst, r.Value...) }
	case 'S':
		return func(dst []byte, r *kgo.Record) []byte { return strconv.AppendInt(dst, lengthOf(r.Value), 10) }
	case 'k':
		return func(dst []byte, r *kgo.Record) []byte { return append(dst, r.Key...) }
	case 'K':
		return func(dst []byte, r *kgo.Record) []byte { return strconv.AppendInt(dst, lengthOf(r.Key), 10) }
	case 't':
		return func(dst []byte, r *kgo.Record) []byte { return append(dst, r.Topic...) }
	case 'p':
		return func(dst []byte, r *kgo.Record) []byte { return strconv.AppendInt(dst, int64(r.Partition), 10) }
	case 'o':
		return func(dst []byte, r *kgo.Record) []byte { return strconv.AppendInt(dst, r.Offset, 10) }
	case 'T':
		return func(dst []byte, r *kgo.Record) []byte { return strconv.AppendInt(dst, r.Timestamp.UnixMilli(), 10) }
	case 'h':
		return func(dst []byte, r *kgo.Record) []byte {
			for i, h := range r.Headers {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(append(append(dst, h.Key...), '='), h.Value...)
			}
			return dst
		}
	}
	return nil
}

// jsonRecord is a record as a line of JSON; bytes that are no UTF-8 stand in the _base64 fields, null is null.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   *int32       `json:"partition,omitempty"`
	Offset      *int64       `json:"offset,omitempty"`
	Timestamp   string       `json:"timestamp,omitempty"`
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"value_base64,omitempty"`
}

func textOrBase64(b []byte) (*string, string) {
	switch {
	case b == nil:
		return nil, ""
	case utf8.Valid(b):
		s := string(b)
		return &s, ""
	default:
		return nil, base64.StdEncoding.EncodeToString(b)
	}
}

func fromTextOrBase64(s *string, b64 string) ([]byte, error) {
	if b64 != "" {
		return base64.StdEncoding.DecodeString(b64)
	}
	if s == nil {
		return nil, nil
	}
	return []byte(*s), nil
}

func formatJSON(dst []byte, r *kgo.Record) []byte {
	j := jsonRecord{Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, Timestamp: r.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z07:00")}
	j.Key, j.KeyBase64 = textOrBase64(r.Key)
	j.Value, j.ValueBase64 = textOrBase64(r.Value)
	for _, h := range r.Headers {
		jh := jsonHeader{Key: h.Key}
		jh.Value, jh.ValueBase64 = textOrBase64(h.Value)
		j.Headers = append(j.Headers, jh)
	}
	line, err := json.Marshal(j)
	if err != nil {
		return append(dst, fmt.Sprintf("{\"error\":%q}\n", err)...)
	}
	return append(append(dst, line...), '\n')
}

// parseJSONRecord reads a line that formatJSON has written; topic, partition, offset and timestamp are taken where given.
func parseJSONRecord(line []byte) (*kgo.Record, error) {
	var j jsonRecord
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("not a record in JSON ({\"key\":…,\"value\":…,\"headers\":[…]}): %w", err)
	}
	r := &kgo.Record{Topic: j.Topic, Partition: -1}
	if j.Partition != nil {
		r.Partition = *j.Partition
	}
	var err error
	if r.Key, err = fromTextOrBase64(j.Key, j.KeyBase64); err != nil {
		return nil, fmt.Errorf("key_base64: %w", err)
	}
	if r.Value, err = fromTextOrBase64(j.Value, j.ValueBase64); err != nil {
		return nil, fmt.Errorf("value_base64: %w", err)
	}
	if j.Timestamp != "" {
		if r.Timestamp, err = time.Parse(time.RFC3339Nano, j.Timestamp); err != nil {
			return nil, err
		}
	}
	for _, h := range j.Headers {
		v, err := fromTextOrBase64(h.Value, h.ValueBase64)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", h.Key, err)
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: v})
	}
	return r, nil
}
