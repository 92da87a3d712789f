package consumer

import (
	"regexp"
	"strings"
	"testing"
)

func TestRegex(t *testing.T) {
	c := DefaultConfig()
	for _, c2 := range []struct {
		expr string
		ok   bool
	}{
		{"", true}, {"a", true}, {"a|b", true}, {"(?i)orders-.*", true}, {`\w+\.\d{1,3}`, true}, {"a{1000}", true},
		{"a)|(b", false}, {"[", false}, {`(a)\1`, false}, {"(?=a)", false}, {"a{1001}", false},
		{"(a{100}){101}", false}, {"((((a{9}){9}){9}){9}){9}", false}, {"(?:(?:a{30}|b{30}){30}){30}", false},
		{strings.Repeat("a", 4096), true}, {strings.Repeat("a", 4097), false},
	} {
		if err := c.checkRegex(c2.expr); (err == nil) != c2.ok {
			t.Errorf("%.40q: %v", c2.expr, err)
		}
	}
	re, err := compile("a|b")
	if err != nil || !re.MatchString("a") || !re.MatchString("b") || re.MatchString("ab") || re.MatchString("a\n") {
		t.Errorf("an expression must match the whole name: %v, %v", re, err)
	}
}

// What is let in compiles, is small, and matches the name as a whole or not at all.
func FuzzRegex(f *testing.F) {
	for _, s := range []string{"a|b", "x*", "(?i)a.b", "^t$", `\Qa.b\E`, "[^a]+", "(?s).", "a)|(b", "(a{50}){50}"} {
		f.Add(s, "t-1")
	}
	c := DefaultConfig()
	f.Fuzz(func(t *testing.T, expr, name string) {
		if c.checkRegex(expr) != nil {
			return
		}
		re, err := compile(expr)
		if err != nil {
			t.Fatalf("let in, and does not compile: %v", err)
		}
		inner := regexp.MustCompile(expr)
		inner.Longest()
		if re.MatchString(name) && !inner.MatchString(name) {
			t.Fatalf("%q as a whole matches %q, but nowhere within", expr, name)
		}
	})
}
