// SPDX-License-Identifier: Apache-2.0
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";

import { Batch, type Outcome, type Recorded, type UsageRecordInit } from "./batch.js";
import { type CallOptions, Channel } from "./channel.js";
import { type Options, resolveEndpoint } from "./config.js";
import { TaximeterError } from "./errors.js";
import {
  type CheckQuotaRequestSchema,
  type CheckQuotaResponse,
  MeteringService,
} from "./gen/taximeter/v1/metering_service_pb.js";
import { Hold } from "./hold.js";
import { RecordIds } from "./recordId.js";

const CHECK_TIMEOUT_MS = 1_000;
const RECORD_TIMEOUT_MS = 10_000;

/** The fields of a check. */
export type Check = MessageInitShape<typeof CheckQuotaRequestSchema>;
/** Records usage and asks before calls whether they may go on. One per process is enough. Rejects with TaximeterError. */
export class Client {
  readonly #channel: Channel;
  readonly #recordIds = new RecordIds();

  /** Opens a client; it connects at the first call. Throws an Error that says what is wrong with the options. */
  constructor(options: Options = {}) {
    this.#channel = new Channel(resolveEndpoint(options, process.env));
  }

  /** Ends the connection and the calls under way. */
  close(): void {
    this.#channel.close();
  }

  /** Makes a call of any service, such as `client.call(TenantService.method.getTenant, { tenant: "acme" })`. */
  call<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
    options: CallOptions = {},
  ): Promise<MessageShape<Output>> {
    return this.#send(method, () => request, (answer) => answer, options);
  }

  /**
   * Decides whether a call may go on. A denial is an answer with Decision.DENY. A rejection means that nothing was decided:
   * whether to go on then is the caller's choice.
   */
  check(check: Check, options: CallOptions = {}): Promise<CheckQuotaResponse> {
    // A check that is named holds once, however often it is sent.
    const named = check.holdTtl && !check.requestId ? { ...check, requestId: this.#recordIds.next() } : check;
    return this.call(MeteringService.method.checkQuota, named as Check, { timeoutMs: CHECK_TIMEOUT_MS, ...options });
  }

  /**
   * Records what one call used, and resolves once that is durable. Makes a record id where there is none, and sends the
   * same record again while the outcome is unknown, so that it is charged once. Where a TaximeterError's notRecorded is
   * false, record again with the same id, which is why a caller that wants to do so makes it itself.
   */
  async record(record: UsageRecordInit, options: CallOptions = {}): Promise<Recorded> {
    const named = this.#named(record);
    const answer = await this.call(MeteringService.method.record, { record: named }, options);
    return Object.assign(answer, { recordId: named.recordId });
  }

  /**
   * Records up to 500 records; resolves to one outcome for each, in their order. A bad record fails alone, and records whose
   * outcome is unknown are sent again.
   */
  async recordBatch(records: readonly UsageRecordInit[], options: CallOptions = {}): Promise<Outcome[]> {
    const batch = new Batch(records.map((record) => this.#named(record)));
    try {
      await this.#send(
        MeteringService.method.recordBatch,
        () => batch.request(),
        (answer) => batch.take(answer),
        options,
      );
    } catch (error) {
      // After a first answer every record has an outcome; a retry that failed leaves them as they are.
      if (batch.outcomes.length === 0) throw error;
    }
    return batch.outcomes;
  }

  /** Checks, and holds the estimate for `holdTtl`. The hold is missing where the decision is not ALLOW. */
  async placeHold(check: Check, options: CallOptions = {}): Promise<{ decision: CheckQuotaResponse; hold?: Hold }> {
    const decision = await this.check(check, options);
    return decision.holdId ? { decision, hold: this.holdOf(check.tenant ?? "", decision.holdId) } : { decision };
  }

  /** Returns a hold that was placed before, here or in another process. */
  holdOf(tenant: string, holdId: string): Hold {
    return new Hold(this, tenant, holdId);
  }

  /** Makes a call. Rejects with TaximeterError, or OutcomeUnknown where `read` did to the last. */
  async #send<Input extends DescMessage, Output extends DescMessage, T>(
    method: DescMethodUnary<Input, Output>,
    request: () => MessageInitShape<Input>,
    read: (answer: MessageShape<Output>) => T,
    { timeoutMs = RECORD_TIMEOUT_MS, signal }: CallOptions,
  ): Promise<T> {
    try {
      return await this.#channel.unary(method, request, read, timeoutMs, signal);
    } catch (error) {
      throw isServiceError(error) ? TaximeterError.ofCall(error) : error;
    }
  }

  #named(record: UsageRecordInit): UsageRecordInit & { recordId: string } {
    return { ...record, recordId: record.recordId || this.#recordIds.next() } as UsageRecordInit & { recordId: string };
  }
}

/** Tells what gRPC rejects with from what this package does. */
function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "details" in error;
}
