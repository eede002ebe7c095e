// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"regexp"
	"testing"
	"time"
)

// Ids are UUIDv7 that sort in the order they were made, also when the clock stands still or goes back.
func TestRecordIDsAreInOrder(t *testing.T) {
	shape := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	now := time.UnixMilli(1_780_000_000_000)
	ids := &RecordIDs{clock: func() time.Time { return now }}
	last := ""
	for i := range 10_000 {
		if i == 5_000 {
			now = now.Add(-time.Hour)
		}
		id := ids.New()
		if !shape.MatchString(id) || id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
	if last[:13] < "019e7044-8800" || last[:13] > "019e7044-880f" {
		t.Errorf("%s is far from the clock", last)
	}
}
