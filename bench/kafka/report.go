package main

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// measures are the figures of one run of a row, by metric.
type measures map[string]float64

func (m measures) String() string {
	var out []string
	for k, v := range m {
		out = append(out, fmt.Sprintf("%s=%s", k, figure(v)))
	}
	sort.Strings(out)
	return strings.Join(out, "  ")
}

// goal is a ratio first/second to be reached: at least, or at most, or (absolute) a figure of the first itself.
type goal struct {
	metric   string
	atLeast  float64
	atMost   float64
	absolute bool
}

func (g goal) String() string {
	sign, v, unit := ">=", g.atLeast, "x"
	if g.atMost != 0 {
		sign, v = "<=", g.atMost
	}
	if g.absolute {
		unit = ""
	}
	return fmt.Sprintf("%s %g%s", sign, v, unit)
}

func (g goal) met(first, ratio float64) bool {
	v := ratio
	if g.absolute {
		v = first
	}
	return g.atMost != 0 && v <= g.atMost || g.atLeast != 0 && v >= g.atLeast
}

type table struct {
	names [2]string
	runs  map[string][2]map[string][]float64 // row -> side -> metric -> figures
	fails map[string][2]int
	last  map[string]error
}

func newTable(a, b string) *table {
	return &table{names: [2]string{a, b}, runs: map[string][2]map[string][]float64{}, fails: map[string][2]int{}, last: map[string]error{}}
}

func index(first bool) int {
	if first {
		return 0
	}
	return 1
}

func (t *table) add(row string, first bool, m measures) {
	r, ok := t.runs[row]
	if !ok {
		r = [2]map[string][]float64{{}, {}}
		t.runs[row] = r
	}
	for k, v := range m {
		r[index(first)][k] = append(r[index(first)][k], v)
	}
}

func (t *table) fail(row string, first bool, err error) {
	f := t.fails[row]
	f[index(first)]++
	t.fails[row] = f
	t.last[row] = err
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func cell(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s [%s-%s]", figure(median(v)), figure(slices.Min(v)), figure(slices.Max(v)))
}

// markdown prints a line for every metric of every row: medians [min-max], their ratio, and the goal where there is one.
func (t *table) markdown(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| row | metric | %s | %s | ratio | goal | |\n|-|-|-|-|-|-|-|\n", t.names[0], t.names[1])
	met, goals := 0, 0
	for _, r := range rows {
		runs := t.runs[r.name]
		metrics := map[string]bool{}
		for _, side := range runs {
			for k := range side {
				metrics[k] = true
			}
		}
		var names []string
		for k := range metrics {
			names = append(names, k)
		}
		sort.Strings(names)
		for _, k := range names {
			a, c := runs[0][k], runs[1][k]
			ratio := 0.0
			ratioText := "-"
			if len(a) > 0 && len(c) > 0 && median(c) != 0 {
				ratio = median(a) / median(c)
				ratioText = fmt.Sprintf("%.2fx", ratio)
			}
			goalText, verdict := "", ""
			for _, g := range r.goals {
				if g.metric != k || len(a) == 0 || !g.absolute && ratioText == "-" {
					continue
				}
				goalText += g.String() + " "
				goals++
				if g.met(median(a), ratio) {
					met++
					verdict += "met "
				} else {
					verdict += "**missed** "
				}
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s| %s|\n", r.name, k, cell(a), cell(c), ratioText, goalText, verdict)
		}
		if f := t.fails[r.name]; f != [2]int{} {
			fmt.Fprintf(&b, "| %s | failed runs | %d | %d | | | %s |\n", r.name, f[0], f[1], strings.ReplaceAll(strings.SplitN(t.last[r.name].Error(), "\n", 2)[0], "|", "/"))
		}
	}
	fmt.Fprintf(&b, "\n%d of %d goals met\n", met, goals)
	return b.String()
}
