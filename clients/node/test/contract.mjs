// SPDX-License-Identifier: Apache-2.0
// Runs the contract suite's calls with this client: one line of JSON in, one out; see tests/cases/contract/README.md.
import { createInterface } from "node:readline";
import { inspect } from "node:util";

import { create, fromJson, toJson } from "@bufbuild/protobuf";
import {
  CheckQuotaRequestSchema,
  CheckQuotaResponseSchema,
  Client,
  Decision,
  ExtendHoldRequestSchema,
  ExtendHoldResponseSchema,
  HoldState,
  Money,
  RecordBatchRequestSchema,
  RecordResponseSchema,
  TaximeterError,
  UsageRecordSchema,
  parsePicos,
  rateLimitHeaders,
} from "@taximeter/client";

import { startGateway } from "./gateway.mjs";

let client;
let hold;
const gateways = [];

const calls = {
  connect({ url, key, ca_file: caFile }) {
    client?.close();
    client = new Client({ url, key, caFile });
    return {};
  },
  check: async (given) => decision(await client.check(fromJson(CheckQuotaRequestSchema, given))),
  record: async (given) => recorded(await client.record(fromJson(UsageRecordSchema, given))),
  async record_batch(given) {
    const { records } = fromJson(RecordBatchRequestSchema, given);
    const outcomes = await client.recordBatch(records);
    return {
      items: outcomes.map((one) => (one.error ? { error: failure(one.error) } : { recorded: recorded(one.recorded) })),
    };
  },
  async hold(given) {
    const placed = await client.placeHold(fromJson(CheckQuotaRequestSchema, given));
    hold = placed.hold;
    return decision(placed.decision);
  },
  async extend(given) {
    const answer = await hold.extend(fromJson(ExtendHoldRequestSchema, given));
    return { ...write(ExtendHoldResponseSchema, answer), allowed: answer.decision === Decision.ALLOW };
  },
  release: async () => ({ state: `HOLD_STATE_${HoldState[await hold.release()]}` }),
  settle: async (given) => recorded(await hold.settle(fromJson(UsageRecordSchema, given))),
  async gateway() {
    const { server, url } = await startGateway(client);
    gateways.push(server);
    return { url };
  },
  parse_money: ({ text }) => ({ picos: String(parsePicos(text)) }),
  show: () => ({ text: shown(client) }),
  format_money: (given) => ({ text: String(new Money(given.currency_code, BigInt(given.picos))) }),
};

// In all ways in which one would log it.
function shown(value) {
  return [inspect(value, { depth: null, showHidden: true }), JSON.stringify(value), String(value)].join("\n");
}

function write(schema, message) {
  return toJson(schema, create(schema, message), { useProtoFieldName: true });
}

function decision(answer) {
  return {
    ...write(CheckQuotaResponseSchema, answer),
    allowed: answer.decision === Decision.ALLOW,
    estimated_cost: answer.estimatedCost && money(answer.estimatedCost),
    headers: rateLimitHeaders(answer, new Date()),
  };
}

function recorded(answer) {
  return { ...write(RecordResponseSchema, answer), record_id: answer.recordId, cost: money(answer.cost) };
}

function money(message) {
  const amount = Money.of(message);
  return { text: String(amount), picos: String(amount.picos) };
}

function failure(error) {
  if (!(error instanceof TaximeterError)) return { code: "INVALID_VALUE", text: shown(error) };
  return {
    code: error.codeName,
    reason: error.reason,
    metadata: error.metadata,
    fields: error.fields.map(({ field }) => field),
    not_recorded: error.notRecorded,
    text: shown(error),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { call, with: given } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await calls[call](given) };
  } catch (error) {
    if (!(error instanceof TaximeterError || error instanceof RangeError)) throw error;
    answer = { error: failure(error) };
  }
  console.log(JSON.stringify(answer));
}
client?.close();
for (const server of gateways) {
  server.closeAllConnections();
  server.close();
}
