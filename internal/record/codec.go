package record

// Codec is how the records of a batch are compressed.
type Codec int8

// The codecs, with Kafka's numbers.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// Known says whether c is a codec there is.
func (c Codec) Known() bool { return c >= None && c <= Zstd }

// String gives the name that the config compression.type uses.
func (c Codec) String() string {
	switch c {
	case None:
		return "uncompressed"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return "unknown"
}
