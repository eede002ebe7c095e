// SPDX-License-Identifier: Apache-2.0
// An Express server behind the middleware, for the contract suite.
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { UsageSchema, callOf, expressMiddleware } from "@taximeter/client";
import express from "express";

export function usage(tokens) {
  return create(UsageSchema, { visibleOutputTokens: BigInt(tokens) });
}

/** Returns the check that a request's headers ask for. */
export function checkOf({ headers }) {
  const { "x-tenant": tenant, "x-estimate": estimate } = headers;
  if (tenant === undefined) return undefined;
  const held = estimate === undefined ? {} : { estimate: usage(estimate), holdTtl: durationFromMs(60_000) };
  return { tenant, model: "gpt-5", ...held };
}

/** Starts it on a port of its own. */
export async function startGateway(client) {
  const app = express();
  const onError = (error) => {
    throw error;
  };
  app.use(expressMiddleware(client, { check: checkOf, onError }));
  app.get("/", (request, response) => {
    if (request.headers["x-fail"] !== undefined) return response.status(500).send("failed");
    const used = request.headers["x-used"];
    if (used !== undefined) {
      callOf(request)?.use({ model: "gpt-5", payload: { case: "usage", value: usage(used) } });
    }
    return response.send("served");
  });
  const server = await new Promise((resolve) => {
    const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}
