package main

import (
	"fmt"
	"strconv"
	"strings"
)

// span is an inclusive range of versions.
type span struct{ lo, hi int }

type definitions struct {
	name, doc, space string
	messages         []*message
}

type message struct {
	kind, name string
	apiKey     int // -1 where there is none
	versions   span
	flexible   int // first flexible version; above versions.hi where there is none
	root       *structure
	structs    []*structure
}

type structure struct {
	name, goName string
	fields       []*field
}

type field struct {
	name, typ string // typ without []
	array     bool
	versions  span
	null      bool
	tag       int // -1 where untagged
	def       string
	ignorable bool
}

var scalars = map[string]struct {
	goType string
	size   int
}{
	"bool": {"bool", 1}, "int8": {"int8", 1}, "int16": {"int16", 2}, "uint16": {"uint16", 2}, "int32": {"int32", 4}, "uint32": {"uint32", 4},
	"int64": {"int64", 8}, "float64": {"float64", 8}, "uuid": {"UUID", 16}, "string": {"string", 1}, "bytes": {"[]byte", 1},
}

// parse reads one definitions file.
func parse(name, text string) (*definitions, error) {
	d := &definitions{name: name}
	var msg *message
	var st *structure
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		err := func() error {
			switch {
			case words[0] == "#":
				if d.doc == "" {
					d.doc = strings.TrimPrefix(line, "# ")
				}
			case words[0] == "space" && len(words) == 2:
				d.space = words[1]
			case line[0] != ' ':
				m, err := parseMessage(words)
				if err != nil {
					return err
				}
				msg, st = m, m.root
				d.messages = append(d.messages, m)
			case msg == nil:
				return fmt.Errorf("a field before any message")
			case words[0] == "struct" && len(words) == 2:
				st = &structure{name: words[1], goName: msg.name + words[1]}
				msg.structs = append(msg.structs, st)
			default:
				f, err := parseField(words, msg.versions)
				if err != nil {
					return err
				}
				st.fields = append(st.fields, f)
			}
			return nil
		}()
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	for _, m := range d.messages {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, m.name, err)
		}
	}
	return d, nil
}

func parseMessage(words []string) (*message, error) {
	if len(words) < 3 {
		return nil, fmt.Errorf("a message needs kind, name and versions")
	}
	m := &message{kind: words[0], name: words[1], apiKey: -1, flexible: 1 << 15}
	m.root = &structure{goName: m.name}
	for _, w := range words[2:] {
		key, val, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "versions":
			m.versions, err = parseSpan(val, 0)
		case "flexible":
			m.flexible, err = strconv.Atoi(strings.TrimSuffix(val, "+"))
		default:
			m.apiKey, err = strconv.Atoi(w)
		}
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

func parseField(words []string, all span) (*field, error) {
	if len(words) < 2 {
		return nil, fmt.Errorf("a field needs a name and a type")
	}
	f := &field{name: words[0], versions: all, tag: -1}
	f.typ, f.array = strings.CutPrefix(words[1], "[]")
	for _, w := range words[2:] {
		key, val, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "null":
			f.null = true
		case "ignorable":
			f.ignorable = true
		case "default":
			f.def = val
		case "tag":
			f.tag, err = strconv.Atoi(val)
		default:
			f.versions, err = parseSpan(w, all.hi)
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

func parseSpan(s string, top int) (span, error) {
	lo, hi, ranged := strings.Cut(s, "-")
	if open, ok := strings.CutSuffix(s, "+"); ok {
		lo, hi, ranged = open, strconv.Itoa(top), true
	}
	if !ranged {
		hi = lo
	}
	a, err := strconv.Atoi(lo)
	if err != nil {
		return span{}, fmt.Errorf("versions %q: %w", s, err)
	}
	b, err := strconv.Atoi(hi)
	if err != nil {
		return span{}, fmt.Errorf("versions %q: %w", s, err)
	}
	if a > b {
		return span{}, fmt.Errorf("versions %q: the first is above the last", s)
	}
	return span{a, b}, nil
}

// check holds a message to what the writer of code below relies on.
func (m *message) check() error {
	for _, s := range append([]*structure{m.root}, m.structs...) {
		for _, f := range s.fields {
			if _, ok := scalars[f.typ]; !ok && m.find(f.typ) == nil {
				return fmt.Errorf("%s.%s: unknown type %s", s.goName, f.name, f.typ)
			}
			if f.versions.lo < m.versions.lo || f.versions.hi > m.versions.hi {
				return fmt.Errorf("%s.%s: versions outside those of the message", s.goName, f.name)
			}
			if f.tag >= 0 && f.versions.lo < m.flexible {
				return fmt.Errorf("%s.%s: a tagged field below the flexible version", s.goName, f.name)
			}
			if f.def == "empty" && (!f.null || f.tag < 0 || !f.array && !f.isStruct()) {
				return fmt.Errorf("%s.%s: only a tagged array or struct that may be null is empty by default", s.goName, f.name)
			}
			if f.tag >= 0 && f.isStruct() && !f.null {
				return fmt.Errorf("%s.%s: a tagged struct must be null by default", s.goName, f.name)
			}
			if f.null && !f.array && !f.isStruct() && f.typ != "string" {
				return fmt.Errorf("%s.%s: %s cannot be null", s.goName, f.name, f.typ)
			}
		}
	}
	return nil
}

func (m *message) find(name string) *structure {
	for _, s := range m.structs {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (f *field) isStruct() bool { _, ok := scalars[f.typ]; return !ok }

// emptyByDefault says whether some field's default is the struct with all its defaults, in place of null.
func (m *message) emptyByDefault(s *structure) bool {
	for _, o := range append([]*structure{m.root}, m.structs...) {
		for _, f := range o.fields {
			if f.def == "empty" && !f.array && f.typ == s.name {
				return true
			}
		}
	}
	return false
}

// minSize is the least number of bytes a value of the struct takes in any version.
func (m *message) minSize(s *structure) int {
	n := 0
	for _, f := range s.fields {
		if f.tag >= 0 || f.versions != m.versions {
			continue
		}
		switch {
		case f.array || f.null:
			n++
		case f.isStruct():
			n += m.minSize(m.find(f.typ))
		default:
			n += scalars[f.typ].size
		}
	}
	return max(n, 1)
}
