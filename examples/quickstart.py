# SPDX-License-Identifier: Apache-2.0
"""One check and one record, against the server on this machine."""

from taximeter import Meter, Usage

with Meter() as meter:
    decision = meter.check_quota("acme/research", model="gpt-5")
    if not decision.allowed:
        raise SystemExit(f"denied; try again in {decision.retry_after}")

    # Here the model is called; these are the numbers of its answer.
    usage = Usage(uncached_input_tokens=1_200, cache_read_tokens=800, visible_output_tokens=300)
    recorded = meter.record("acme/research", usage, model="gpt-5", attributes={"workflow_uuid": "demo"})
    print("recorded:", recorded.cost)
