// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.EnumSet;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** Sends calls again until their outcome is known, out of one budget. */
final class Retries {
  private static final int ATTEMPTS_MAX = 5;
  private static final long BACKOFF_FIRST_MS = 100;
  private static final long BACKOFF_MAX_MS = 2_000;
  /** The server answers or fails within 2 s; what takes longer was lost on the way. */
  private static final Duration ATTEMPT_TIMEOUT = Duration.ofMillis(2_500);
  // A retry costs a token and a call earns a tenth of one: when every call fails, retries would multiply the load on a
  // server that cannot bear it already.
  private static final int BUDGET_TENTHS_MAX = 1_000;
  private static final int BUDGET_TENTHS_PER_RETRY = 10;
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
  private static final Set<Status.Code> UNKNOWN =
      EnumSet.of(
          Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED, Status.Code.INTERNAL, Status.Code.UNKNOWN);

  private int budgetTenths = BUDGET_TENTHS_MAX;

  /** On which statuses a call may be sent again. */
  enum Repeatable {
    /** Only where the server could not answer, and within the deadline of the one call. */
    ON_UNAVAILABLE,
    /** On every status that leaves the outcome unknown; a server that restarts is waited for. */
    ON_UNKNOWN
  }

  /** One attempt of a call. */
  interface Attempt<T> {
    /** Makes it. Throws StatusRuntimeException, and OutcomeUnknown for an answer that leaves some records unknown. */
    T make(Duration timeout, boolean waitsForReady);
  }

  /** An answer that leaves some records unknown: they are to be sent again. */
  static final class OutcomeUnknown extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  /** Says whether a status leaves open if a record was recorded, so that sending it again may tell. */
  static boolean isUnknown(Status.Code code) {
    return UNKNOWN.contains(code);
  }

  /**
   * Makes a call until its outcome is known: an answer, or a status that is final; at most five times. Throws what the last
   * attempt did, or the one before where the time was over before the server could say anything new.
   */
  <T> T untilKnown(Repeatable kind, Duration timeout, Attempt<T> attempt) {
    long deadline = System.nanoTime() + timeout.toNanos();
    earn();
    RuntimeException known = null;
    for (int number = 1; ; number++) {
      Duration left = Duration.ofNanos(deadline - System.nanoTime());
      boolean isLong = kind == Repeatable.ON_UNKNOWN && left.compareTo(ATTEMPT_TIMEOUT) > 0;
      try {
        return attempt.make(isLong ? ATTEMPT_TIMEOUT : left, kind == Repeatable.ON_UNKNOWN && number > 1);
      } catch (StatusRuntimeException | OutcomeUnknown error) {
        if (known == null || codeOf(error) != Status.Code.DEADLINE_EXCEEDED) {
          known = error;
        }
        OptionalLong waitMs = number == ATTEMPTS_MAX ? OptionalLong.empty() : waitAfter(error, kind, number);
        boolean hasRoom =
            waitMs.isPresent() && TimeUnit.MILLISECONDS.toNanos(waitMs.getAsLong()) < deadline - System.nanoTime();
        if (!hasRoom || !spend() || !sleep(waitMs.getAsLong())) {
          throw known;
        }
      }
    }
  }

  /** Returns how long to wait before another attempt; empty when none may follow. */
  private static OptionalLong waitAfter(RuntimeException error, Repeatable kind, int number) {
    Status.Code code = codeOf(error);
    Metadata trailers = Status.trailersFromThrowable(error);
    String asked = trailers == null ? null : trailers.get(PUSHBACK);
    boolean mayRepeat =
        code == Status.Code.UNAVAILABLE
            || (kind == Repeatable.ON_UNKNOWN && isUnknown(code))
            // The server says when it will have time.
            || (code == Status.Code.RESOURCE_EXHAUSTED && asked != null);
    if (!mayRepeat) {
      return OptionalLong.empty();
    }
    if (asked != null) {
      // What is no number means "not again", as gRPC has it.
      return asked.matches("\\d{1,9}") ? OptionalLong.of(Long.parseLong(asked)) : OptionalLong.empty();
    }
    long longestMs = Math.min(BACKOFF_FIRST_MS << (number - 1), BACKOFF_MAX_MS);
    return OptionalLong.of(ThreadLocalRandom.current().nextLong(longestMs + 1));
  }

  private static Status.Code codeOf(RuntimeException error) {
    return error instanceof StatusRuntimeException failed ? failed.getStatus().getCode() : Status.Code.UNKNOWN;
  }

  /** Waits; false where the thread was interrupted, which stays noted. */
  private static boolean sleep(long waitMs) {
    try {
      TimeUnit.MILLISECONDS.sleep(waitMs);
      return true;
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return false;
    }
  }

  private synchronized void earn() {
    budgetTenths = Math.min(budgetTenths + 1, BUDGET_TENTHS_MAX);
  }

  private synchronized boolean spend() {
    if (budgetTenths < BUDGET_TENTHS_PER_RETRY) {
      return false;
    }
    budgetTenths -= BUDGET_TENTHS_PER_RETRY;
    return true;
  }
}
