package record

import (
	"encoding/binary"
	"strconv"
)

// ControlType is the kind of a control record, the second int16 of its key.
type ControlType int16

// The kinds of control records: the first two end a transaction, the others belong to the metadata log.
const (
	ControlAbort          ControlType = 0
	ControlCommit         ControlType = 1
	ControlLeaderChange   ControlType = 2
	ControlSnapshotHeader ControlType = 3
	ControlSnapshotFooter ControlType = 4
	ControlKRaftVersion   ControlType = 5
	ControlKRaftVoters    ControlType = 6
)

func (t ControlType) String() string {
	switch t {
	case ControlAbort:
		return "ABORT"
	case ControlCommit:
		return "COMMIT"
	case ControlLeaderChange:
		return "LEADER_CHANGE"
	case ControlSnapshotHeader:
		return "SNAPSHOT_HEADER"
	case ControlSnapshotFooter:
		return "SNAPSHOT_FOOTER"
	case ControlKRaftVersion:
		return "KRAFT_VERSION"
	case ControlKRaftVoters:
		return "KRAFT_VOTERS"
	}
	return "UNKNOWN(" + strconv.Itoa(int(t)) + ")"
}

// ControlKey is the key of a control record of type t, version 0.
func ControlKey(t ControlType) []byte {
	return binary.BigEndian.AppendUint16(make([]byte, 2, 4), uint16(t))
}

// ParseControlKey reads the key of a control record. Longer keys of later versions are accepted.
func ParseControlKey(key []byte) (version int16, t ControlType, err error) {
	if len(key) < 4 {
		return 0, 0, faultf(faultRecords, "the key of a control record is shorter than 4 bytes", nil)
	}
	return be16(key), ControlType(be16(key[2:])), nil
}

// EndTxn is what the marker at the end of a transaction says.
type EndTxn struct {
	Commit           bool
	CoordinatorEpoch int32
}

const endTxnValueSize = 6 // int16 version, int32 coordinator epoch

// EndTxnMarker is the batch of one control record that ends the transaction of a producer in a partition.
func EndTxnMarker(commit bool, coordinatorEpoch int32, producerID int64, producerEpoch int16, baseOffset, ts int64) []byte {
	t := ControlAbort
	if commit {
		t = ControlCommit
	}
	b := NewBuilder(BuilderOptions{
		BaseOffset: baseOffset, LeaderEpoch: NoLeaderEpoch, Transactional: true, Control: true,
		HasProducer: true, ProducerID: producerID, ProducerEpoch: producerEpoch, BaseSequence: NoSequence,
	})
	value := binary.BigEndian.AppendUint32(make([]byte, 2, endTxnValueSize), uint32(coordinatorEpoch))
	b.Append(ts, ControlKey(t), value, nil)
	return b.Finish()
}

// AppendControl adds a control record, whose value is a message already encoded, to a builder with the option Control.
func (b *Builder) AppendControl(ts int64, t ControlType, value []byte) {
	b.Append(ts, ControlKey(t), value, nil)
}

// Control is one control record.
type Control struct {
	Version     int16 // of the key
	Type        ControlType
	OffsetDelta int32
	Value       []byte // the message's bytes; for EndTxn see ParseEndTxn
}

// ParseControl gives the first control record of a control batch, which in a partition with transactions is the only one.
// Value is a copy.
func ParseControl(batch []byte) (Control, error) {
	var c Control
	found := false
	err := ControlRecords(batch, func(got Control) error {
		if !found {
			c, found = got, true
			c.Value = append([]byte(nil), got.Value...)
		}
		return nil
	})
	if err == nil && !found {
		err = faultf(faultRecords, "a control batch without a record", nil)
	}
	return c, err
}

// ControlRecords calls fn with each control record of a control batch; Value is valid during the call.
func ControlRecords(batch []byte, fn func(Control) error) error {
	h, err := ParseHeader(batch)
	if err != nil {
		return err
	}
	if !h.IsControl() {
		return faultf(faultRecords, "not a control batch", nil)
	}
	return Records(batch, Limits{MaxDecompressedBytes: 64 << 20}, func(r *Record) error {
		version, t, err := ParseControlKey(r.Key)
		if err != nil {
			return err
		}
		return fn(Control{Version: version, Type: t, OffsetDelta: r.OffsetDelta, Value: r.Value})
	})
}

// ParseEndTxn reads the marker of a transaction's end; ok is false where c is another control record.
func ParseEndTxn(c Control) (e EndTxn, ok bool, err error) {
	if c.Type != ControlAbort && c.Type != ControlCommit {
		return EndTxn{}, false, nil
	}
	if len(c.Value) < endTxnValueSize {
		return EndTxn{}, false, faultf(faultRecords, "the end marker of a transaction is shorter than 6 bytes", nil)
	}
	return EndTxn{Commit: c.Type == ControlCommit, CoordinatorEpoch: be32(c.Value[2:])}, true, nil
}
