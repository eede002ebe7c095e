// SPDX-License-Identifier: Apache-2.0
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";

import { systemClockMs } from "./clock.js";
import type { Endpoint } from "./config.js";
import { RetryBudget, untilKnown } from "./retry.js";

const VERSION = "0.1.0";
const RESPONSE_BYTES_MAX = 64 * 1024 * 1024;
const METERING = "taximeter.v1.MeteringService";
/** Methods that are sent again here: by whether every status that leaves the outcome unknown is a reason. */
const REPEATED: ReadonlyMap<string, boolean> = new Map([
  ["CheckQuota", false],
  ["ExtendHold", false],
  ["ReleaseHold", false],
  ["Record", true],
  ["RecordBatch", true],
  ["RecordLevel", true],
]);

/**
 * What gRPC sends again by itself: up to 5 attempts with jittered waits from 100 ms to 2 s, out of a budget of a tenth of
 * the calls, and as the server asks for. CreateKey and what publishes prices is not listed: a second attempt would do more.
 */
const SERVICE_CONFIG = {
  loadBalancingConfig: [],
  methodConfig: [
    { name: [...REPEATED.keys()].map((method) => ({ service: METERING, method })) },
    {
      name: [{ service: METERING }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
  retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
};

/** How one call is made. */
export interface CallOptions {
  /** Longest time in milliseconds, all attempts together. */
  readonly timeoutMs?: number;
  /** Ends the call. */
  readonly signal?: AbortSignal;
}

/** One connection with its key, for the methods of any service. */
export class Channel {
  readonly #client: Client;
  readonly #key: string;
  readonly #budget = new RetryBudget();

  constructor(endpoint: Endpoint) {
    this.#key = endpoint.key;
    const transport = endpoint.isTls ? credentials.createSsl(endpoint.rootsPem) : credentials.createInsecure();
    this.#client = new Client(endpoint.target, transport, {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      "grpc.primary_user_agent": `taximeter-node/${VERSION}`,
      "grpc.max_receive_message_length": RESPONSE_BYTES_MAX,
      // A connection that died silently is noticed within 40 s, while calls are waiting on it.
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // A server that restarts is back within seconds; the default would wait up to two minutes.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 2_000,
      ...(endpoint.isLoopback ? { "grpc.enable_http_proxy": 0 } : {}),
    });
  }

  close(): void {
    this.#client.close();
  }

  /** Makes a call; `read` reads its answer, and may ask for another by OutcomeUnknown. Rejects with what went wrong. */
  async unary<Input extends DescMessage, Output extends DescMessage, T>(
    method: DescMethodUnary<Input, Output>,
    request: () => MessageInitShape<Input>,
    read: (answer: MessageShape<Output>) => T,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<T> {
    const attempt = async (leftMs: number, waitForReady: boolean) =>
      read(await this.#once(method, request(), leftMs, waitForReady, signal));
    const whenUnknown = method.parent.typeName === METERING ? REPEATED.get(method.name) : undefined;
    if (whenUnknown === undefined) return attempt(timeoutMs, false);
    return untilKnown(this.#budget, { whenUnknown, timeoutMs, signal }, attempt);
  }

  #once<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
    timeoutMs: number,
    waitForReady: boolean,
    signal: AbortSignal | undefined,
  ): Promise<MessageShape<Output>> {
    const metadata = new Metadata({ waitForReady });
    if (this.#key) metadata.set("authorization", `Bearer ${this.#key}`);
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<Input>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        create(method.input, request),
        metadata,
        { deadline: systemClockMs() + timeoutMs },
        (error: ServiceError | null, answer?: MessageShape<Output>) => {
          signal?.removeEventListener("abort", abort);
          if (error) reject(error);
          else resolve(answer as MessageShape<Output>);
        },
      );
      const abort = () => call.cancel();
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted) abort();
    });
  }
}
