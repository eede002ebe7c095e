// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.taximeter.v1.CheckQuotaResponse;
import com.taximeter.v1.UsageRecord;
import jakarta.servlet.ServletRequest;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** One request behind {@link MeteringFilter}: what it used is recorded when it ends. */
public final class Call {
  static final String ATTRIBUTE = Call.class.getName();

  private final TaximeterClient client;
  private final String tenant;
  private final CheckQuotaResponse decision;
  private final List<UsageRecord> records = new ArrayList<>();

  Call(TaximeterClient client, String tenant, CheckQuotaResponse decision) {
    this.client = client;
    this.tenant = tenant;
    this.decision = decision;
  }

  /** The metered call that a request is; empty where the filter does not meter it. */
  public static Optional<Call> of(ServletRequest request) {
    return Optional.ofNullable((Call) request.getAttribute(ATTRIBUTE));
  }

  /** The answer to the check; empty where nothing was decided and the filter fails open. */
  public Optional<CheckQuotaResponse> decision() {
    return Optional.ofNullable(decision);
  }

  /**
   * Says what the request used, once for each model or tool that it called; the first settles the hold, where there is one.
   * Without a tenant it is that of the check.
   */
  public synchronized void use(UsageRecord record) {
    UsageRecord.Builder filled = record.toBuilder();
    if (record.getTenant().isEmpty()) {
      filled.setTenant(tenant);
    }
    if (records.isEmpty() && record.getHoldId().isEmpty()) {
      filled.setHoldId(holdId());
    }
    records.add(filled.build());
  }

  /** Records what was used, or frees the hold. */
  synchronized void finish() {
    if (records.isEmpty() && !holdId().isEmpty()) {
      client.holdOf(tenant, holdId()).release();
    }
    RuntimeException failed = null;
    for (UsageRecord record : records) {
      try {
        client.record(record);
      } catch (TaximeterException error) {
        if (failed == null) {
          failed = error;
        } else {
          failed.addSuppressed(error);
        }
      }
    }
    if (failed != null) {
      throw failed;
    }
  }

  private String holdId() {
    return decision == null ? "" : decision.getHoldId();
  }
}
