// Command schemagen turns the record definitions of internal/wire/schema/definitions into Go. It knows the
// definition format and the layout of generated code; it must never know what a record means.
//
// A definitions file is lines of words; `#` starts a comment, indentation says what belongs to what:
//
//	space group                                     where its record types are numbered: metadata, group, txn, share, none
//	value OffsetCommitValue 1 versions=0-4 flexible=4+   kind (record, key, value, data), name, record type, versions
//	  Offset int64                                  a field that is there in all versions
//	  LeaderEpoch int32 3+ default=-1 ignorable     in versions 3 and up; ignorable: silently left out of older ones
//	  TopicID uuid 4+ tag=0                         a tagged field: written only where it differs from its default
//	  Racks []Rack null                             null is a value of its own; the default of a null field is null
//	  Epochs []int32 null tag=1 default=empty       or empty, where it says so: null is then written as such
//	  struct Rack                                   a struct of this message, Go name <message><struct>
//	    Name string
//
// Versions are `2`, `1-3` or `2+`. Strings, bytes and arrays have the compact encoding and structs a tag section from
// the flexible version on.
package main
