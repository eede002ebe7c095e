// SPDX-License-Identifier: Apache-2.0

// One check and one record, against the server on this machine.
import { Client, Decision, Money } from "@taximeter/client";

const client = new Client();
const decision = await client.check({ tenant: "acme/research", model: "gpt-5" });
if (decision.decision === Decision.ALLOW) {
  // Here the model is called; these are the numbers of its answer.
  const usage = { uncachedInputTokens: 1_200n, cacheReadTokens: 800n, visibleOutputTokens: 300n };
  const recorded = await client.record({
    tenant: "acme/research",
    model: "gpt-5",
    payload: { case: "usage", value: usage },
    attributes: { workflow_uuid: "demo" },
  });
  console.log(`recorded: ${Money.of(recorded.cost)}`);
} else {
  console.log("denied; try again in", decision.retryAfter?.seconds, "s");
}
client.close();
