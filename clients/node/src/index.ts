// SPDX-License-Identifier: Apache-2.0

/**
 * Node client of Taximeter, which meters what AI workloads use, prices it by a rate card, and says before each call
 * whether a tenant may go on. Requests and answers are the generated messages; counts of 64 bits are BigInt.
 */
export type { Outcome, Recorded, UsageRecordInit } from "./batch.js";
export type { CallOptions } from "./channel.js";
export { type Check, Client } from "./client.js";
export type { Options } from "./config.js";
export { type FieldViolation, TaximeterError } from "./errors.js";
export { type Extension, Hold } from "./hold.js";
export { Call, callOf, expressMiddleware, fastifyHook, type Metering } from "./middleware.js";
export { Money, parsePicos } from "./money.js";
export { rateLimitHeaders } from "./rateLimitHeaders.js";
export { RecordIds } from "./recordId.js";
export * from "./gen/api.js";
