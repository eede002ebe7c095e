// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";

import { status as Code, type ServiceError } from "@grpc/grpc-js";

const ATTEMPTS_MAX = 5;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2_000;
/** The server answers or fails within 2 s; what takes longer was lost on the way. */
const ATTEMPT_TIMEOUT_MS = 2_500;
const BUDGET_TENTHS_MAX = 1_000;
const BUDGET_TENTHS_PER_RETRY = 10;
const PUSHBACK_KEY = "grpc-retry-pushback-ms";
const UNKNOWN: ReadonlySet<Code> = new Set([Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN]);

/** An answer that leaves some records unknown: they are to be sent again. */
export class OutcomeUnknown extends Error {}

/** Says whether a status leaves open if a record was recorded, so that sending it again may tell. */
export function isUnknown(code: Code): boolean {
  return UNKNOWN.has(code);
}

/**
 * What may be sent again: a tenth of what is sent, and a reserve. When every call fails, retries would multiply the load on
 * a server that cannot bear it already.
 */
export class RetryBudget {
  #tenths = BUDGET_TENTHS_MAX;

  earn(): void {
    this.#tenths = Math.min(this.#tenths + 1, BUDGET_TENTHS_MAX);
  }

  spend(): boolean {
    if (this.#tenths < BUDGET_TENTHS_PER_RETRY) return false;
    this.#tenths -= BUDGET_TENTHS_PER_RETRY;
    return true;
  }
}

/** How a call is sent again. */
export interface Repeating {
  /** All statuses that leave the outcome unknown, waiting for a server that restarts; or UNAVAILABLE alone. */
  readonly whenUnknown: boolean;
  /** Longest time in milliseconds, all attempts together. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes a call until its outcome is known: an answer, or a status that is final; at most five times. Rejects with what the
 * last attempt did, or the one before where the time was over before the server could say anything new.
 */
export async function untilKnown<T>(
  budget: RetryBudget,
  { whenUnknown, timeoutMs, signal }: Repeating,
  attempt: (timeoutMs: number, waitForReady: boolean) => Promise<T>,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  budget.earn();
  let known: unknown;
  for (let number = 1; ; number += 1) {
    const leftMs = deadlineMs - performance.now();
    try {
      return await attempt(whenUnknown ? Math.min(leftMs, ATTEMPT_TIMEOUT_MS) : leftMs, whenUnknown && number > 1);
    } catch (error) {
      if (known === undefined || codeOf(error) !== Code.DEADLINE_EXCEEDED) known = error;
      const waitMs = waitAfter(error, whenUnknown, number);
      const hasRoom = waitMs !== undefined && performance.now() + waitMs < deadlineMs;
      if (!hasRoom || signal?.aborted || !budget.spend()) throw known;
      // Whoever aborts learns it from the next attempt.
      await sleep(waitMs, undefined, signal ? { signal } : {}).catch(() => undefined);
    }
  }
}

/** Returns how long to wait before another attempt; undefined when none may follow. */
function waitAfter(error: unknown, whenUnknown: boolean, number: number): number | undefined {
  const code = codeOf(error);
  const [asked] = (error as Partial<ServiceError>).metadata?.get(PUSHBACK_KEY) ?? [];
  const mayRepeat =
    code === Code.UNAVAILABLE ||
    (whenUnknown && isUnknown(code)) ||
    // The server says when it will have time.
    (code === Code.RESOURCE_EXHAUSTED && asked !== undefined);
  if (!mayRepeat || number === ATTEMPTS_MAX) return undefined;
  // What is no number means "not again", as gRPC has it.
  if (asked !== undefined) return /^\d+$/.test(String(asked)) ? Number(asked) : undefined;
  return Math.random() * Math.min(BACKOFF_FIRST_MS * 2 ** (number - 1), BACKOFF_MAX_MS);
}

function codeOf(error: unknown): Code {
  return error instanceof OutcomeUnknown ? Code.UNKNOWN : ((error as Partial<ServiceError>).code ?? Code.CANCELLED);
}
