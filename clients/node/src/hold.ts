// SPDX-License-Identifier: Apache-2.0
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { Recorded, UsageRecordInit } from "./batch.js";
import type { CallOptions } from "./channel.js";
import type { Client } from "./client.js";
import {
  type ExtendHoldRequestSchema,
  type ExtendHoldResponse,
  type HoldState,
  MeteringService,
} from "./gen/taximeter/v1/metering_service_pb.js";

const TIMEOUT_MS = 1_000;

/** The fields of an extension; those of the hold itself are filled in. */
export type Extension = MessageInitShape<typeof ExtendHoldRequestSchema>;

/** What a call under way may use: it counts against the limits until it is settled, released, or out of time. */
export class Hold {
  readonly #client: Client;

  constructor(
    client: Client,
    readonly tenant: string,
    readonly id: string,
  ) {
    this.#client = client;
  }

  /** Lets the hold live and hold more. Where the decision is not ALLOW it stays as it was. */
  extend(extension: Extension, options: CallOptions = {}): Promise<ExtendHoldResponse> {
    const request = { ...extension, tenant: this.tenant, holdId: this.id } as Extension;
    return this.#client.call(MeteringService.method.extendHold, request, { timeoutMs: TIMEOUT_MS, ...options });
  }

  /** Frees the hold, for a call that did not happen. Once more is safe; the state is how the hold ended. */
  async release(options: CallOptions = {}): Promise<HoldState> {
    const request = { tenant: this.tenant, holdId: this.id };
    const answer = await this.#client.call(MeteringService.method.releaseHold, request, {
      timeoutMs: TIMEOUT_MS,
      ...options,
    });
    return answer.state;
  }

  /** Records what the call used; tenant and hold are filled in. */
  settle(record: UsageRecordInit, options: CallOptions = {}): Promise<Recorded> {
    return this.#client.record({ ...record, tenant: this.tenant, holdId: this.id } as UsageRecordInit, options);
  }
}
