package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ottla/ottla/chaos/check"
	"github.com/ottla/ottla/chaos/meter"
)

func secs(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

func spread(s meter.Spread) string {
	if s.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f / %.1f", s.Median.Seconds(), s.Max.Seconds())
}

func (st step) leaders() string {
	switch {
	case st.unmoved:
		return "not while it lasted"
	case st.moved > 0:
		return secs(st.moved)
	}
	return "-"
}

func (st step) recovery() string {
	if st.broken {
		return "not within " + secs(st.whole)
	}
	return secs(st.whole)
}

func (st step) remarks() string {
	var out []string
	if st.detail != "" {
		out = append(out, st.detail)
	}
	if len(st.died) > 0 {
		out = append(out, fmt.Sprintf("nodes %v ended by themselves", st.died))
	}
	if st.err != nil {
		out = append(out, strings.ReplaceAll(st.err.Error(), "\n", "; "))
	}
	return strings.Join(out, "; ")
}

func (st step) String() string {
	return fmt.Sprintf("%-18s nodes %v, leaders moved after %s, whole %s after its end %s", st.window.Name, st.window.Targets, st.leaders(), st.recovery(), st.remarks())
}

// report is the run in Markdown.
func (r *result) report() string {
	var b strings.Builder
	v := r.verdict
	verdict := "valid"
	if !v.Valid() {
		var found []string
		for _, c := range check.Classes() {
			if a := v.Found[c]; a != nil {
				found = append(found, fmt.Sprintf("%s %d", c, a.Count))
			}
		}
		verdict = strings.Join(found, ", ")
	}
	fmt.Fprintf(&b, "\n## %s, %d nodes, seed %d\n\n", r.name, r.opts.nodes, r.opts.seed)
	fmt.Fprintf(&b, "| contestant (seed) | s | acked | lost | dup | txn ok | p50/p99 ack ms | produce availability | verdict |\n|---|---|---|---|---|---|---|---|---|\n")
	fmt.Fprintf(&b, "| %s (%d) | %.0f | %d | %s | %d | %d | %d / %d | %.3f | %s |\n", r.name, r.opts.seed, r.seconds, r.meter.Acks(), r.lost(), r.count(check.Duplicated), v.Committed,
		r.meter.Latency(0.5).Milliseconds(), r.meter.Latency(0.99).Milliseconds(), r.meter.Availability(), verdict)
	fmt.Fprintf(&b, "\nTime without a produce acknowledgement, s (median / worst partition):\n\n| fault | partitions the hit nodes led | the others | leaders moved | whole again | remarks |\n|---|---|---|---|---|---|\n")
	for _, st := range r.steps {
		led, others := r.meter.Split(st.window)
		fmt.Fprintf(&b, "| %s %v | %s | %s | %s | %s | %s |\n", st.window.Name, st.window.Targets, spread(led), spread(others), st.leaders(), st.recovery(), st.remarks())
	}
	b.WriteString("\n" + verdictText(v))
	for _, n := range r.notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if len(r.errors) > 0 {
		keys := make([]string, 0, len(r.errors))
		for k := range r.errors {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(x, y string) int { return r.errors[y] - r.errors[x] })
		fmt.Fprintf(&b, "what clients reported most:\n")
		for _, k := range keys[:min(len(keys), 8)] {
			fmt.Fprintf(&b, "%6d  %s\n", r.errors[k], strings.ReplaceAll(k, "\n", " "))
		}
	}
	for _, s := range r.skipped {
		fmt.Fprintf(&b, "SKIP %s\n", s)
	}
	return b.String()
}

func (r *result) count(c check.Class) int64 {
	if a := r.verdict.Found[c]; a != nil {
		return a.Count
	}
	return 0
}

func (r *result) lost() string {
	n := r.count(check.AckedLost)
	if n == 0 || r.meter.Acks() == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.1f %%)", n, 100*float64(n)/float64(r.meter.Acks()))
}

// verdictText lists what was found, with examples.
func verdictText(v check.Verdict) string {
	var b strings.Builder
	p, t := v.Produced, v.Transacted
	fmt.Fprintf(&b, "produced: sent %d, acked %d, refused %d, unknown %d (in the log without an acknowledgement: %d)\n", p.Sent, p.Acked, p.Failed, p.Unknown, v.UnknownFound)
	fmt.Fprintf(&b, "in transactions: sent %d, acked %d, unknown %d; without any result %d; transactions committed %d, aborted %d, unknown %d\n", t.Sent, t.Acked, t.Unknown, v.Pending, v.Committed, v.Aborted, v.TxnUnknown)
	fmt.Fprintf(&b, "read live %d, in the final log %d\n", v.Read, v.FinalRecords)
	if v.Valid() {
		b.WriteString("verdict: VALID, none of")
		for _, c := range check.Classes() {
			fmt.Fprintf(&b, " %s", c)
		}
		b.WriteString("\n")
		return b.String()
	}
	b.WriteString("verdict: INVALID\n")
	for _, c := range check.Classes() {
		a := v.Found[c]
		if a == nil {
			continue
		}
		fmt.Fprintf(&b, "  %s: %d\n", c, a.Count)
		for _, e := range a.Examples[:min(3, len(a.Examples))] {
			fmt.Fprintf(&b, "      %s\n", e)
		}
	}
	return b.String()
}

// sideBySide compares the contestants fault by fault: the worst over the run's faults of that name.
func sideBySide(all []*result) string {
	var names []string
	for _, r := range all {
		for _, st := range r.steps {
			if !slices.Contains(names, st.window.Name) {
				names = append(names, st.window.Name)
			}
		}
	}
	var b strings.Builder
	b.WriteString("\n## Side by side\n\n| |")
	for _, r := range all {
		fmt.Fprintf(&b, " %s |", r.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	row := func(name string, cell func(r *result) string) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, r := range all {
			fmt.Fprintf(&b, " %s |", cell(r))
		}
		b.WriteString("\n")
	}
	row("acknowledged and lost", (*result).lost)
	for _, c := range check.Classes()[1:] {
		row(string(c), func(r *result) string { return fmt.Sprint(r.count(c)) })
	}
	row("produce availability", func(r *result) string { return fmt.Sprintf("%.3f", r.meter.Availability()) })
	for _, name := range names {
		row(name+": stall of led / of other partitions, worst s", func(r *result) string {
			var led, others time.Duration
			n := 0
			for _, st := range r.steps {
				if st.window.Name == name {
					a, o := r.meter.Split(st.window)
					led, others, n = max(led, a.Max), max(others, o.Max), n+1
				}
			}
			return fmt.Sprintf("%s / %s (%dx)", secs(led), secs(others), n)
		})
	}
	return b.String()
}
