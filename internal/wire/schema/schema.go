// Package schema knows Kafka's record formats: the metadata log, the coordinator topics, control records. Names,
// types, versions and bytes, no more: it must never know what a record means or what comes of it.
//
// The types are generated from definitions/*.txt. A Go field has Kafka's name with a capital first letter and ID for
// Id. A nullable string or struct is a pointer, a nullable array or byte string is null where it is nil. A value made
// with the New function has Kafka's defaults, a literal has Go's.
package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
)

//go:generate go run github.com/ottla/ottla/internal/gen/schemagen

// UUID is a topic, directory or incarnation id, most significant byte first.
type UUID = [16]byte

// Tag is a tagged field as it is on the wire.
type Tag struct {
	Tag  uint32
	Data []byte
}

// Message is a record, a record's key or value, or a small file's body.
type Message interface {
	APIKey() int16
	MessageName() string
	LowestVersion() int16
	HighestVersion() int16
	AppendTo(dst []byte, version int16) ([]byte, error)
	ReadFrom(src []byte, version int16) error
}

var (
	// ErrUnknownRecordType is a record type that this release does not know; a loader skips such a record.
	ErrUnknownRecordType = errors.New("unknown record type")
	// ErrUnsupportedVersion is a version outside those of the message.
	ErrUnsupportedVersion = errors.New("unsupported version")
	// ErrMalformed is an encoding that cannot be.
	ErrMalformed = errors.New("malformed record")
)

const metadataFrameVersion = 1

// AppendMetadataRecord appends a record of the metadata log: frame version 1, record type and version as unsigned
// varints, then the body.
func AppendMetadataRecord(dst []byte, m Message, version int16) ([]byte, error) {
	out := binary.AppendUvarint(dst, metadataFrameVersion)
	out = binary.AppendUvarint(out, uint64(uint16(m.APIKey())))
	out = binary.AppendUvarint(out, uint64(uint16(version)))
	out, err := m.AppendTo(out, version)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// ReadMetadataRecord reads what AppendMetadataRecord wrote and says at which version. A record type this release does
// not know is ErrUnknownRecordType.
func ReadMetadataRecord(src []byte) (Message, int16, error) {
	r := reader{b: src}
	frame, key, version := r.uvarint(), r.uvarint(), r.uvarint()
	switch {
	case r.err != nil:
		return nil, 0, fmt.Errorf("metadata record frame: %w", r.err)
	case frame != metadataFrameVersion:
		return nil, 0, fmt.Errorf("metadata record frame version %d: %w", frame, ErrUnsupportedVersion)
	case key > 0x7fff || version > 0x7fff:
		return nil, 0, fmt.Errorf("metadata record of type %d version %d: %w", key, version, ErrMalformed)
	}
	m := NewMetadataRecord(int16(key))
	if m == nil {
		return nil, int16(version), fmt.Errorf("metadata record of type %d: %w", key, ErrUnknownRecordType)
	}
	if err := m.ReadFrom(r.b, int16(version)); err != nil {
		return nil, int16(version), err
	}
	return m, int16(version), nil
}

// AppendCoordinatorKey appends a key of a coordinator topic: the record type, then the body at version 0.
// It panics on a key with a string that is too long (over 32767 bytes): callers bound ids and names before.
func AppendCoordinatorKey(dst []byte, key Message) []byte {
	out, err := key.AppendTo(binary.BigEndian.AppendUint16(dst, uint16(key.APIKey())), key.HighestVersion())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return out
}

// AppendCoordinatorValue appends a value of a coordinator topic: the version, then the body.
func AppendCoordinatorValue(dst []byte, val Message, version int16) ([]byte, error) {
	out, err := val.AppendTo(binary.BigEndian.AppendUint16(dst, uint16(version)), version)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// ReadGroupRecord reads a record of __consumer_offsets. v is nil for a tombstone (value == nil). A type that this
// release does not know is ErrUnknownRecordType.
func ReadGroupRecord(key, value []byte) (k, v Message, err error) {
	return readCoordinatorRecord(key, value, NewGroupKey, NewGroupValue)
}

// ReadTxnRecord reads a record of __transaction_state, like ReadGroupRecord.
func ReadTxnRecord(key, value []byte) (k, v Message, err error) {
	return readCoordinatorRecord(key, value, NewTxnKey, NewTxnValue)
}

// ReadShareRecord reads a record of __share_group_state, like ReadGroupRecord.
func ReadShareRecord(key, value []byte) (k, v Message, err error) {
	return readCoordinatorRecord(key, value, NewShareKey, NewShareValue)
}

func readCoordinatorRecord(key, value []byte, newKey, newValue func(int16) Message) (k, v Message, err error) {
	if len(key) < 2 {
		return nil, nil, fmt.Errorf("coordinator record key of %d bytes: %w", len(key), ErrMalformed)
	}
	typ := int16(binary.BigEndian.Uint16(key))
	if k = newKey(typ); k == nil {
		return nil, nil, fmt.Errorf("coordinator record of type %d: %w", typ, ErrUnknownRecordType)
	}
	if err := k.ReadFrom(key[2:], k.HighestVersion()); err != nil {
		return nil, nil, err
	}
	if value == nil {
		return k, nil, nil
	}
	if len(value) < 2 {
		return nil, nil, fmt.Errorf("value of %s of %d bytes: %w", k.MessageName(), len(value), ErrMalformed)
	}
	if v = newValue(typ); v == nil {
		return nil, nil, fmt.Errorf("coordinator record value of type %d: %w", typ, ErrUnknownRecordType)
	}
	if err := v.ReadFrom(value[2:], int16(binary.BigEndian.Uint16(value))); err != nil {
		return nil, nil, err
	}
	return k, v, nil
}

func checkVersion(m Message, version int16) error {
	if version < m.LowestVersion() || version > m.HighestVersion() {
		return fmt.Errorf("%s version %d, supported %d to %d: %w", m.MessageName(), version, m.LowestVersion(), m.HighestVersion(), ErrUnsupportedVersion)
	}
	return nil
}
