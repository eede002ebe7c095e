// SPDX-License-Identifier: Apache-2.0

/** Returns the time of this machine in Unix milliseconds; the one place that reads the wall clock. */
export function systemClockMs(): number {
  return Date.now();
}
