package record

import (
	"bytes"
	"fmt"
	"testing"
)

// benchBatch holds records of 100 bytes that compress about as JSON does.
func benchBatch(codec Codec, size int) []byte {
	b := NewBuilder(BuilderOptions{Codec: codec, LeaderEpoch: -1})
	for i := 0; b.Size() < size; i++ {
		v := fmt.Appendf(nil, `{"id":%d,"name":"customer-%d","amount":%d.%02d,"currency":"EUR","note":"`, i, i*7919%1000, i*31%977, i%100)
		b.Append(now+int64(i%10), fmt.Appendf(nil, "k%06d", i*7919%100000), append(v, bytes.Repeat([]byte{'a' + byte(i%26)}, 15)...), nil)
	}
	return b.Finish()
}

func BenchmarkValidate(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10} {
		for codec := None; codec <= Zstd; codec++ {
			in := benchBatch(codec, size)
			for _, full := range []bool{false, true} {
				if full && codec == None {
					continue
				}
				b.Run(fmt.Sprintf("%s/%dKiB/full=%v", codec, size>>10, full), func(b *testing.B) {
					o := defaults()
					o.FullInner = full
					b.SetBytes(int64(len(in)))
					b.ReportAllocs()
					for b.Loop() {
						if _, err := Validate(in, o); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func BenchmarkCheckCRC(b *testing.B) {
	in := benchBatch(None, 256<<10)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		CheckCRC(in)
	}
}

func BenchmarkBuild(b *testing.B) {
	for codec := None; codec <= Zstd; codec++ {
		b.Run(codec.String(), func(b *testing.B) {
			key, value := []byte("key-000001"), bytes.Repeat([]byte("some value "), 9)
			builder := NewBuilder(BuilderOptions{Codec: codec})
			var dst []byte
			b.ReportAllocs()
			b.SetBytes(150 * 110)
			for b.Loop() {
				builder.Reset(BuilderOptions{Codec: codec})
				for range 150 {
					builder.Append(now, key, value, nil)
				}
				dst = builder.AppendTo(dst[:0])
			}
		})
	}
}
