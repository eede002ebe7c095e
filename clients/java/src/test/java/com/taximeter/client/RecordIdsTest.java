// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Instant;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/** Record ids. */
class RecordIdsTest {
  /** Ids are UUIDv7 that sort in the order they were made, also when the clock stands still or goes back. */
  @Test
  void idsAreInOrder() {
    var nowMs = new AtomicLong(1_780_000_000_000L);
    var ids = new RecordIds(() -> Instant.ofEpochMilli(nowMs.get()));
    String last = "";
    for (int i = 0; i < 10_000; i++) {
      if (i == 5_000) {
        nowMs.addAndGet(-3_600_000);
      }
      String id = ids.next();
      assertTrue(id.matches("019e7044-880[0-9a-f]-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), id);
      assertTrue(id.compareTo(last) > 0, id + " after " + last);
      last = id;
    }
  }
}
