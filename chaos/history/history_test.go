package history

import (
	"testing"

	"pgregory.net/rapid"
)

func TestValuesAreReadBackAndDamageIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := Value{Topic: rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "topic"), Partition: int32(rapid.IntRange(0, 99).Draw(t, "p")), Writer: int32(rapid.IntRange(0, 9).Draw(t, "w")),
			Seq: rapid.Int64Range(0, 1<<50).Draw(t, "seq"), Txn: rapid.Int64Range(0, 1<<40).Draw(t, "txn"), InSeq: rapid.Int64Range(0, 1<<40).Draw(t, "in")}
		b := v.Bytes(rapid.IntRange(0, 400).Draw(t, "size"))
		got, err := Parse(b)
		if err != nil || got != v {
			t.Fatalf("%+v, %v; was %+v", got, err, v)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := Parse(b); err == nil {
			t.Fatalf("damaged bytes gave %+v", got)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(Value{Topic: "t", Seq: 3}.Bytes(80))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := Parse(b); err == nil && v.Topic == "" && len(b) < 9 {
			t.Fatalf("%q gave %+v", b, v)
		}
	})
}
