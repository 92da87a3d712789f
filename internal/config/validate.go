package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Validator checks a parsed value beyond its type. String is how tools show it.
type Validator interface {
	check(name string, c cell) error
	String() string
}

// Error is a value that was refused. Request marks the few that the protocol answers as an invalid request rather
// than an invalid config.
type Error struct {
	Msg     string
	Request bool
}

func (e *Error) Error() string { return e.Msg }

func errorf(format string, args ...any) error { return &Error{Msg: fmt.Sprintf(format, args...)} }

func badValue(name, value, why string) error {
	return errorf("Invalid value %s for configuration %s: %s", value, name, why)
}

// IsRequestError says whether err is to be answered as an invalid request.
func IsRequestError(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Request
}

// numRange bounds a number; hi is math.MaxInt64 where there is no upper bound.
type numRange struct{ lo, hi int64 }

func atLeast(lo int64) Validator     { return numRange{lo, math.MaxInt64} }
func between(lo, hi int64) Validator { return numRange{lo, hi} }

func (r numRange) String() string {
	if r.hi == math.MaxInt64 {
		return fmt.Sprintf("[%d,...]", r.lo)
	}
	return fmt.Sprintf("[%d,...,%d]", r.lo, r.hi)
}

func (r numRange) check(name string, c cell) error {
	below, above := c.n < r.lo, c.n > r.hi
	if c.float {
		f := math.Float64frombits(uint64(c.n))
		below, above = !(f >= float64(r.lo)), f > float64(r.hi)
	}
	switch {
	case below:
		return badValue(name, c.s, "Value must be at least "+strconv.FormatInt(r.lo, 10))
	case above:
		return badValue(name, c.s, "Value must be no more than "+strconv.FormatInt(r.hi, 10))
	}
	return nil
}

// floatRange bounds a DOUBLE where the bounds are no whole numbers.
type floatRange struct{ lo, hi float64 }

func (r floatRange) String() string { return fmt.Sprintf("[%g,...,%g]", r.lo, r.hi) }
func (r floatRange) check(name string, c cell) error {
	switch f := math.Float64frombits(uint64(c.n)); {
	case !(f >= r.lo):
		return badValue(name, c.s, fmt.Sprintf("Value must be at least %g", r.lo))
	case f > r.hi:
		return badValue(name, c.s, fmt.Sprintf("Value must be no more than %g", r.hi))
	}
	return nil
}

// gzipLevel is 1 to 9, or -1 for the codec's own default.
type gzipLevel struct{}

func (gzipLevel) String() string { return "[1,...,9] or -1" }
func (gzipLevel) check(name string, c cell) error {
	if (c.n < 1 || c.n > 9) && c.n != -1 {
		return badValue(name, c.s, "Value must be between 1 and 9 or equal to -1")
	}
	return nil
}

// oneOf is a fixed set of words.
type oneOf struct {
	words []string
	fold  bool
}

func in(words ...string) Validator     { return oneOf{words: words} }
func inFold(words ...string) Validator { return oneOf{words: words, fold: true} }

func (o oneOf) String() string {
	s := "[" + strings.Join(o.words, ", ") + "]"
	if o.fold {
		s = "(case insensitive) " + s
	}
	return s
}

func (o oneOf) check(name string, c cell) error {
	ok := slices.ContainsFunc(o.words, func(w string) bool { return w == c.s || o.fold && strings.EqualFold(w, c.s) })
	if !ok && !c.null {
		how := ""
		if o.fold {
			how = " (case insensitive)"
		}
		return badValue(name, c.text(), "String must be one of"+how+": "+strings.Join(o.words, ", "))
	}
	return nil
}

// listOf checks the elements of a list: no repetition, and members of words where words are given.
type listOf struct {
	words    []string
	nonEmpty bool
	fixed    bool // words are given, so tools show them
}

func anyList() Validator               { return listOf{} }
func nonEmptyList() Validator          { return listOf{nonEmpty: true} }
func listIn(words ...string) Validator { return listOf{words: words, fixed: true} }

func (l listOf) String() string {
	switch {
	case l.fixed:
		return "[" + strings.Join(l.words, ", ") + "]"
	case l.nonEmpty:
		return "non-empty list"
	}
	return ""
}

func (l listOf) check(name string, c cell) error {
	seen := map[string]bool{}
	for _, e := range c.list {
		if seen[e] {
			return errorf("Configuration '%s' values must not be duplicated.", name)
		}
		seen[e] = true
		if e == "" {
			return errorf("Configuration '%s' values must not be empty.", name)
		}
		if l.fixed && !slices.Contains(l.words, e) {
			return badValue(name, e, "String must be one of: "+strings.Join(l.words, ", "))
		}
	}
	return nil
}

type nonNull struct{}

func (nonNull) String() string { return "non-null string" }
func (nonNull) check(name string, c cell) error {
	if c.null {
		return badValue(name, "null", "entry must be non null")
	}
	return nil
}

// nonEmpty refuses the empty string, not null.
type nonEmpty struct{}

func (nonEmpty) String() string { return "non-empty string" }
func (nonEmpty) check(name string, c cell) error {
	if !c.null && c.s == "" {
		return badValue(name, "", "String must be non-empty")
	}
	return nil
}

// throttled is `*` or partition:broker pairs.
type throttled struct{}

var throttledPair = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

const throttledForm = "[partitionId]:[brokerId],[partitionId]:[brokerId],..."

func (throttled) String() string { return throttledForm }
func (throttled) check(name string, c cell) error {
	if len(c.list) == 1 && c.list[0] == "*" {
		return nil
	}
	for _, e := range c.list {
		if e != "" && !throttledPair.MatchString(e) {
			return badValue(name, c.s, name+" must be the literal '*' or a list of replicas in the following format: "+throttledForm)
		}
	}
	return nil
}

// resetStrategy is where a share group starts.
type resetStrategy struct{}

var isoDuration = regexp.MustCompile(`(?i)^P(\d+D)?(T(\d+H)?(\d+M)?(\d+([.]\d{0,9})?S)?)?$`)

func (resetStrategy) String() string { return "[latest, earliest, by_duration:PnDTnHnMn.nS]" }
func (resetStrategy) check(name string, c cell) error {
	switch {
	case c.s == "earliest" || c.s == "latest":
		return nil
	case strings.HasPrefix(c.s, "by_duration:"):
		d := strings.TrimPrefix(c.s, "by_duration:")
		if isoDuration.MatchString(d) && !strings.HasSuffix(strings.ToUpper(d), "T") && len(d) > 1 {
			return nil
		}
	}
	return badValue(name, c.s, fmt.Sprintf("Invalid value `%s` for configuration %s. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.", c.s, name))
}

// cell is one parsed value.
type cell struct {
	n      int64 // BOOLEAN, INT, SHORT, LONG, or the bits of a DOUBLE
	s      string
	list   []string
	null   bool
	float  bool
	source Source
}

func (c cell) text() string {
	if c.null {
		return "null"
	}
	return c.s
}

var listSep = regexp.MustCompile(`\s*,\s*`)

// parse turns text into a value of d's type and checks it.
func (d *Def) parse(s string) (cell, error) {
	if s == null {
		return cell{null: true, source: SourceDefault}, nil
	}
	c, err := d.parseType(strings.TrimSpace(s))
	if err != nil {
		return cell{}, err
	}
	if d.Valid != nil {
		if err := d.Valid.check(d.Name, c); err != nil {
			return cell{}, err
		}
	}
	return c, nil
}

func (d *Def) parseType(s string) (cell, error) {
	c := cell{s: s, source: SourceDefault}
	bits := 0
	switch d.Type {
	case Boolean:
		switch strings.ToLower(s) {
		case "true":
			c.n, c.s = 1, "true"
		case "false":
			c.s = "false"
		default:
			return c, badValue(d.Name, s, "Expected value to be either true or false")
		}
	case Short:
		bits = 16
	case Int:
		bits = 32
	case Long:
		bits = 64
	case Double:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return c, badValue(d.Name, s, "Not a number of type DOUBLE")
		}
		c.n, c.float, c.s = int64(math.Float64bits(f)), true, javaDouble(f)
	case List:
		c.list = []string{}
		if s != "" {
			c.list = listSep.Split(s, -1)
		}
		c.s = strings.Join(c.list, ",")
	}
	if bits > 0 {
		n, err := strconv.ParseInt(s, 10, bits)
		if err != nil {
			return c, badValue(d.Name, s, "Not a number of type "+d.Type.String())
		}
		c.n, c.s = n, strconv.FormatInt(n, 10)
	}
	return c, nil
}

// javaDouble prints a number as Kafka's tools do: 0.5, 10.0, 1.0E10.
func javaDouble(f float64) string {
	a := math.Abs(f)
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if a != 0 && (a < 1e-3 || a >= 1e7) {
		m, e, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
		if !strings.Contains(m, ".") {
			m += ".0"
		}
		n, _ := strconv.Atoi(e)
		return m + "E" + strconv.Itoa(n)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// Check parses value for d and says why it cannot be used.
func (d *Def) Check(value string) error {
	_, err := d.parse(value)
	return err
}
