// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

const (
	counterMax       = 0xFFF
	counterStartMask = 0x7FF
)

// RecordIDs makes record ids: UUIDv7 of RFC 9562, in order within one generator. The 12 bits after the version count up
// within a millisecond from a random start; where they would overflow, the id borrows the next millisecond. It is safe
// for use by several goroutines.
type RecordIDs struct {
	clock func() time.Time

	mutex   sync.Mutex
	timeMS  uint64
	counter uint16
}

// NewRecordIDs is a generator that goes by the system's clock.
func NewRecordIDs() *RecordIDs { return &RecordIDs{clock: systemClock} }

// New is a new id of 36 characters, greater than every id that this generator made before.
func (r *RecordIDs) New() string {
	var id [16]byte
	if _, err := rand.Read(id[6:]); err != nil {
		panic(err) // crypto/rand never returns an error.
	}
	timeMS, counter := r.next(binary.BigEndian.Uint16(id[6:]) & counterStartMask)
	binary.BigEndian.PutUint64(id[:], timeMS<<16|0x7000|uint64(counter))
	id[8] = id[8]&0x3F | 0x80
	return format(id)
}

func (r *RecordIDs) next(counterStart uint16) (uint64, uint16) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	nowMS := uint64(r.clock().UnixMilli())
	switch {
	case nowMS > r.timeMS:
		r.timeMS, r.counter = nowMS, counterStart
	case r.counter < counterMax:
		// The clock stands still or went back: the order holds, the time in the id waits for it.
		r.counter++
	default:
		r.timeMS, r.counter = r.timeMS+1, counterStart
	}
	return r.timeMS, r.counter
}

func format(id [16]byte) string {
	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	for _, dash := range []int{8, 13, 18, 23} {
		text[dash] = '-'
	}
	return string(text[:])
}
