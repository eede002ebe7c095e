// SPDX-License-Identifier: Apache-2.0
// What the contract suite cannot see. Needs a build, and the server that TAXIMETER_URL names.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Client, RecordIds, TenantService, callOf, fastifyHook } from "@taximeter/client";
import fastify from "fastify";

import { resolveEndpoint } from "../dist/esm/config.js";
import { checkOf, usage } from "./gateway.mjs";

test("the package is the same for CommonJS", () => {
  const required = createRequire(import.meta.url)("@taximeter/client");

  assert.equal(String(new required.Money("USD", 12_500_000_000_000n)), "12.50 USD");
  assert.equal(typeof required.Client, "function");
});

test("ids sort in the order they were made, also when the clock goes back", () => {
  let nowMs = 1_780_000_000_000;
  const ids = new RecordIds(() => nowMs);
  const made = Array.from({ length: 10_000 }, (_, i) => {
    if (i === 5_000) nowMs -= 3_600_000;
    return ids.next();
  });

  assert.deepEqual(made, [...new Set(made)].sort());
  assert.match(made[0], /^019e7044-8800-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("an address without a scheme is plain text on this machine and TLS elsewhere", () => {
  const found = (url) => {
    const { target, isTls, isLoopback } = resolveEndpoint({ url }, {});
    return [target, isTls, isLoopback];
  };

  assert.deepEqual(found("http://example.com:7460"), ["example.com:7460", false, false]);
  assert.deepEqual(found("https://example.com"), ["example.com:443", true, false]);
  assert.deepEqual(found("example.com:7460"), ["example.com:7460", true, false]);
  assert.deepEqual(found("localhost:7460"), ["localhost:7460", false, true]);
  assert.deepEqual(found("http://[::1]:7460/"), ["[::1]:7460", false, true]);
  for (const url of ["example.com", "ftp://example.com:1", "http://user@example.com", "http://example.com/path"]) {
    assert.throws(() => found(url), /is no address of a server/, url);
  }
});

test("the admin key of a server on this machine is found, and goes nowhere else", () => {
  const data = mkdtempSync(join(tmpdir(), "taximeter-"));
  writeFileSync(join(data, "address"), "0.0.0.0:7461\n");
  writeFileSync(join(data, "admin.key"), "tx_local\n");
  const here = resolveEndpoint({}, { TAXIMETER_DATA: data });
  const there = resolveEndpoint({}, { TAXIMETER_DATA: data, TAXIMETER_URL: "https://example.com" });

  assert.deepEqual([here.target, here.key, there.key], ["127.0.0.1:7461", "tx_local", ""]);
});

test("requests of Fastify are checked before and recorded after", async () => {
  const client = new Client();
  const tenant = `fastify-${new RecordIds().next()}`;
  await client.call(TenantService.method.putTenant, { tenant: { name: tenant, limits: { tokensPerDay: 30n } } });
  const app = fastify();
  app.addHook("onRequest", fastifyHook(client, { check: checkOf, onError: assert.ifError }));
  app.get("/", (request, reply) => {
    callOf(request.raw)?.use({ model: "gpt-5", payload: { case: "usage", value: usage(20) } });
    return reply.send("served");
  });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const headers = { "x-tenant": tenant, "x-estimate": "15" };
  const [served, denied] = [await fetch(url, { headers }), await fetch(url, { headers })];
  const { limits } = await client.check({ tenant, dryRun: true });

  assert.deepEqual([served.status, await served.text(), denied.status], [200, "served", 429]);
  assert.match(denied.headers.get("ratelimit") ?? "", /^"tokens_per_day;fastify-[^"]*";r=10;t=\d+$/);
  assert.deepEqual([limits[0]?.used, limits[0]?.held], [20n, 0n]);
  await app.close();
  client.close();
});
