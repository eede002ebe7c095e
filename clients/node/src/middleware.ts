// SPDX-License-Identifier: Apache-2.0
import type { IncomingMessage, ServerResponse } from "node:http";

import type { UsageRecordInit } from "./batch.js";
import type { Check, Client } from "./client.js";
import { systemClockMs } from "./clock.js";
import { type CheckQuotaResponse, Decision } from "./gen/taximeter/v1/metering_service_pb.js";
import { rateLimitHeaders } from "./rateLimitHeaders.js";

/** How a middleware meters requests of type Request. */
export interface Metering<Request> {
  /**
   * The check to make before a request is served: tenant and model, and an estimate with a holdTtl where the estimate is to
   * be held. Undefined means that the request is not metered.
   */
  readonly check: (request: Request) => Check | undefined;
  /** Lets requests pass that cannot be decided. They are recorded all the same. By default they are refused. */
  readonly failOpen?: boolean;
  /** Is told of records and holds that failed after the request; without it they are lost silently. */
  readonly onError?: (error: unknown, request: Request) => void;
}

/** One request behind a middleware: what it used is recorded before its answer ends. */
export class Call {
  readonly #client: Client;
  readonly #tenant: string;
  readonly #records: UsageRecordInit[] = [];

  constructor(
    client: Client,
    tenant: string,
    /** The answer to the check. Undefined where nothing was decided and failOpen lets the request pass. */
    readonly decision: CheckQuotaResponse | undefined,
  ) {
    this.#client = client;
    this.#tenant = tenant;
  }

  /**
   * Says what the request used, once for each model or tool that it called; the first settles the hold, where there is
   * one. Without a tenant it is that of the check.
   */
  use(record: UsageRecordInit): void {
    const holdId = record.holdId || (this.#records.length === 0 ? this.decision?.holdId : "") || "";
    this.#records.push({ ...record, tenant: record.tenant || this.#tenant, holdId } as UsageRecordInit);
  }

  /** Records what was used, or frees the hold. */
  async finish(): Promise<void> {
    const records = this.#records.splice(0);
    if (records.length === 0 && this.decision?.holdId) {
      await this.#client.holdOf(this.#tenant, this.decision.holdId).release();
    }
    await Promise.all(records.map((record) => this.#client.record(record)));
  }
}

const calls = new WeakMap<IncomingMessage, Call>();

/** Returns the metered call that a request is; undefined where the middleware does not meter it. */
export function callOf(request: IncomingMessage): Call | undefined {
  return calls.get(request);
}

/** What the middleware tells the caller itself. */
interface Refusal {
  readonly status: number;
  readonly message: string;
}

/** Checks before a handler, and records before the answer ends, or when the caller has gone. */
async function admit<Request>(
  client: Client,
  metering: Metering<Request>,
  request: Request,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<Refusal | undefined> {
  const check = metering.check(request);
  if (check === undefined) return undefined;
  let decision: CheckQuotaResponse | undefined;
  try {
    decision = await client.check(check);
  } catch (error) {
    if (!metering.failOpen) return { status: 503, message: "whether the call may go on could not be decided" };
  }
  if (decision !== undefined) {
    for (const [name, value] of Object.entries(rateLimitHeaders(decision, new Date(systemClockMs())))) {
      response.setHeader(name, value);
    }
    if (decision.decision !== Decision.ALLOW) {
      return { status: 429, message: "a limit of the tenant denies this call" };
    }
  }
  const call = new Call(client, check.tenant ?? "", decision);
  calls.set(incoming, call);
  finishBeforeEnd(response, () => call.finish().catch((error) => metering.onError?.(error, request)));
  return undefined;
}

/** Holds the end of an answer back until `finish` is done; an answer that never ends is finished when it closes. */
function finishBeforeEnd(response: ServerResponse, finish: () => Promise<void>): void {
  let finished: Promise<void> | undefined;
  const once = () => (finished ??= finish());
  const end = response.end as (...rest: unknown[]) => ServerResponse;
  response.end = ((...rest: unknown[]) => {
    void once().then(() => end.apply(response, rest));
    return response;
  }) as typeof response.end;
  response.once("close", once);
}

/** Meters requests of Express; a handler says what it used with `callOf(request)?.use(...)`. */
export function expressMiddleware<Request extends IncomingMessage>(client: Client, metering: Metering<Request>) {
  return (request: Request, response: ServerResponse, next: (error?: unknown) => void): void => {
    admit(client, metering, request, request, response).then((refusal) => {
      if (refusal === undefined) return next();
      response.writeHead(refusal.status, { "content-type": "text/plain" }).end(refusal.message);
    }, next);
  };
}

/** What a hook of Fastify is given, as far as it is needed here. */
interface FastifyReplyShape {
  readonly raw: ServerResponse;
  code(status: number): { header(name: string, value: string): { send(text: string): unknown } };
}

/** Meters requests of Fastify, as its onRequest hook; a handler says what it used with `callOf(request.raw)?.use(...)`. */
export function fastifyHook<Request extends { readonly raw: IncomingMessage }>(
  client: Client,
  metering: Metering<Request>,
) {
  return async (request: Request, reply: FastifyReplyShape): Promise<unknown> => {
    const refusal = await admit(client, metering, request, request.raw, reply.raw);
    return refusal && reply.code(refusal.status).header("content-type", "text/plain").send(refusal.message);
  };
}
