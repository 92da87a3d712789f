package peer

import (
	_ "embed"
)

//go:embed maven/streams.xml
var streamsPOM []byte

// FetchStreams brings the jars of Kafka Streams into the cache with Maven, on first use, and says where they are.
func FetchStreams() (jars string, err error) {
	if _, err := lookPath("java"); err != nil {
		return "", err
	}
	return fetchJars("kafka-streams", streamsPOM)
}
