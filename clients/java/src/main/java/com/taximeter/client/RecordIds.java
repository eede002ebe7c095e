// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import java.security.SecureRandom;
import java.time.InstantSource;
import java.util.UUID;

/**
 * Makes record ids: UUIDv7 of RFC 9562, in order within one generator. The 12 bits after the version count up within a
 * millisecond from a random start; where they would overflow, the id borrows the next millisecond. Safe to share between
 * threads.
 */
public final class RecordIds {
  private static final int COUNTER_MAX = 0xFFF;
  private static final int COUNTER_START_MASK = 0x7FF;
  private static final long VARIANT = 0x8000_0000_0000_0000L;

  private final InstantSource clock;
  private final SecureRandom random = new SecureRandom();
  private long timeMs = -1;
  private int counter;

  /** Goes by the system's clock. */
  public RecordIds() {
    this(InstantSource.system());
  }

  RecordIds(InstantSource clock) {
    this.clock = clock;
  }

  /** A new id of 36 characters, greater than every id that this generator made before. */
  public String next() {
    long low = random.nextLong() >>> 2 | VARIANT;
    return new UUID(nextHigh(random.nextInt() & COUNTER_START_MASK), low).toString();
  }

  private synchronized long nextHigh(int counterStart) {
    long nowMs = clock.millis();
    if (nowMs > timeMs) {
      timeMs = nowMs;
      counter = counterStart;
    } else if (counter < COUNTER_MAX) {
      // The clock stands still or went back: the order holds, the time in the id waits for it.
      counter++;
    } else {
      timeMs++;
      counter = counterStart;
    }
    return timeMs << 16 | 0x7000 | counter;
  }
}
