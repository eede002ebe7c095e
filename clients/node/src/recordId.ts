// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";

import { systemClockMs } from "./clock.js";

const COUNTER_MAX = 0xfff;
const COUNTER_START_MASK = 0x7ff;

/**
 * Makes record ids: UUIDv7 of RFC 9562, in order within one generator. The 12 bits after the version count up within a
 * millisecond from a random start; where they would overflow, the id borrows the next millisecond.
 */
export class RecordIds {
  readonly #clock: () => number;
  #timeMs = -1;
  #counter = 0;

  /** Takes the clock, in Unix milliseconds. */
  constructor(clock: () => number = systemClockMs) {
    this.#clock = clock;
  }

  /** Returns a new id of 36 characters, greater than every id that this generator made before. */
  next(): string {
    const random = randomBytes(10);
    const counterStart = random.readUInt16BE(0) & COUNTER_START_MASK;
    const nowMs = this.#clock();
    if (nowMs > this.#timeMs) {
      [this.#timeMs, this.#counter] = [nowMs, counterStart];
    } else if (this.#counter < COUNTER_MAX) {
      // The clock stands still or went back: the order holds, the time in the id waits for it.
      this.#counter += 1;
    } else {
      [this.#timeMs, this.#counter] = [this.#timeMs + 1, counterStart];
    }
    const tail = random.subarray(2);
    tail.writeUInt8((tail.readUInt8(0) & 0x3f) | 0x80, 0);
    const time = this.#timeMs.toString(16).padStart(12, "0");
    const counter = this.#counter.toString(16).padStart(3, "0");
    const rest = tail.toString("hex");
    return `${time.slice(0, 8)}-${time.slice(8)}-7${counter}-${rest.slice(0, 4)}-${rest.slice(4)}`;
  }
}
