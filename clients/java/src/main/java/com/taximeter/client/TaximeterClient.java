// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.taximeter.client.Retries.Repeatable;
import com.taximeter.v1.CheckQuotaRequest;
import com.taximeter.v1.CheckQuotaResponse;
import com.taximeter.v1.MeteringServiceGrpc;
import com.taximeter.v1.MeteringServiceGrpc.MeteringServiceBlockingStub;
import com.taximeter.v1.RecordRequest;
import com.taximeter.v1.RecordResponse;
import com.taximeter.v1.UsageRecord;
import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Records usage and asks before calls whether they may go on. Safe to share between threads; one per process is enough.
 * Methods throw {@link TaximeterException}. Requests and answers are the messages of com.taximeter.v1, whose comments say
 * units, ranges and defaults.
 */
public final class TaximeterClient implements AutoCloseable {
  static final Duration CHECK_TIMEOUT = Duration.ofSeconds(1);
  static final Duration RECORD_TIMEOUT = Duration.ofSeconds(10);

  private final ManagedChannel channel;
  private final MeteringServiceBlockingStub metering;
  private final RecordIds recordIds = new RecordIds();
  private final Retries retries = new Retries();

  private TaximeterClient(ManagedChannel channel) {
    this.channel = channel;
    this.metering = MeteringServiceGrpc.newBlockingStub(channel);
  }

  /**
   * Opens a client. Waits until it is connected or no server answers, so that what a JVM has to load for its first call does
   * not take the time of a check; a server that is not there yet is found later. Throws IllegalArgumentException for an
   * address that is none, and UncheckedIOException for a file that cannot be read.
   */
  public static TaximeterClient connect(Options options) {
    ManagedChannel channel = Connection.open(Endpoint.resolve(options, System.getenv()));
    Connection.awaitFirstAttempt(channel);
    return new TaximeterClient(channel);
  }

  /** Ends the connection and the calls under way. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** The channel with its key and retries, for the stubs of the other services in com.taximeter.v1. */
  public Channel channel() {
    return channel;
  }

  /**
   * Decides whether a call may go on, within 1 s. A denial is an answer with DECISION_DENY. An exception means that nothing
   * was decided: whether to go on then is the caller's choice.
   */
  public CheckQuotaResponse check(CheckQuotaRequest request) {
    // A check that is named holds once, however often it is sent.
    boolean isUnnamed = request.hasHoldTtl() && request.getRequestId().isEmpty();
    CheckQuotaRequest named =
        isUnnamed ? request.toBuilder().setRequestId(recordIds.next()).build() : request;
    return call(Repeatable.ON_UNAVAILABLE, CHECK_TIMEOUT, stub -> stub.checkQuota(named));
  }

  /**
   * Records what one call used, and returns once that is durable, within 10 s. Makes a record id where there is none, and
   * sends the same record again while the outcome is unknown, so that it is charged once. Where an exception's
   * isNotRecorded() is false, record again with the same id, which is why a caller that wants to do so makes it itself.
   */
  public Recorded record(UsageRecord record) {
    UsageRecord named = named(record);
    RecordRequest request = RecordRequest.newBuilder().setRecord(named).build();
    var answer = call(Repeatable.ON_UNKNOWN, RECORD_TIMEOUT, stub -> stub.record(request));
    return new Recorded(named.getRecordId(), answer);
  }

  /**
   * Records up to 500 records; returns one outcome for each, in their order. A bad record fails alone, and records whose
   * outcome is unknown are sent again.
   */
  public List<Outcome> recordBatch(List<UsageRecord> records) {
    Batch batch = new Batch(records.stream().map(this::named).toList());
    try {
      retries.untilKnown(
          Repeatable.ON_UNKNOWN,
          RECORD_TIMEOUT,
          (timeout, waits) -> {
            batch.take(stub(timeout, waits).recordBatch(batch.request()));
            return batch;
          });
    } catch (StatusRuntimeException error) {
      // After a first answer every record has an outcome; a retry that failed leaves them as they are.
      if (!batch.isAnswered()) {
        throw TaximeterException.of(error);
      }
    } catch (Retries.OutcomeUnknown unknown) {
      // The outcomes say which.
    }
    return batch.outcomes();
  }

  /** Checks a request that has an estimate and a hold_ttl, and holds the estimate. */
  public PlacedHold placeHold(CheckQuotaRequest request) {
    CheckQuotaResponse decision = check(request);
    boolean isHeld = !decision.getHoldId().isEmpty();
    return new PlacedHold(
        decision, isHeld ? Optional.of(holdOf(request.getTenant(), decision.getHoldId())) : Optional.empty());
  }

  /** A hold that was placed before, here or in another process. */
  public Hold holdOf(String tenant, String holdId) {
    return new Hold(this, tenant, holdId);
  }

  <T> T call(Repeatable kind, Duration timeout, Function<MeteringServiceBlockingStub, T> method) {
    try {
      return retries.untilKnown(kind, timeout, (left, waits) -> method.apply(stub(left, waits)));
    } catch (StatusRuntimeException error) {
      throw TaximeterException.of(error);
    }
  }

  private MeteringServiceBlockingStub stub(Duration timeout, boolean waitsForReady) {
    var stub = metering.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
    return waitsForReady ? stub.withWaitForReady() : stub;
  }

  private UsageRecord named(UsageRecord record) {
    return record.getRecordId().isEmpty() ? record.toBuilder().setRecordId(recordIds.next()).build() : record;
  }

  /**
   * The answer to a record.
   *
   * @param recordId id under which it was recorded
   * @param response cost, lines and limits
   */
  public record Recorded(String recordId, RecordResponse response) {}

  /**
   * What became of one record of a batch; exactly one is not null.
   *
   * @param recorded the answer, when it was recorded
   * @param error why it was not, when it failed alone
   */
  public record Outcome(Recorded recorded, TaximeterException error) {}

  /**
   * The answer to a check that holds.
   *
   * @param decision the decision
   * @param hold the hold; empty where the decision is not DECISION_ALLOW
   */
  public record PlacedHold(CheckQuotaResponse decision, Optional<Hold> hold) {}
}
