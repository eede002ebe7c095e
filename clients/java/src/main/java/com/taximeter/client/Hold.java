// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.taximeter.client.Retries.Repeatable;
import com.taximeter.v1.ExtendHoldRequest;
import com.taximeter.v1.ExtendHoldResponse;
import com.taximeter.v1.HoldState;
import com.taximeter.v1.ReleaseHoldRequest;
import com.taximeter.v1.UsageRecord;

/** What a call under way may use: it counts against the limits until it is settled, released, or out of time. */
public final class Hold {
  private final TaximeterClient client;
  private final String tenant;
  private final String id;

  Hold(TaximeterClient client, String tenant, String id) {
    this.client = client;
    this.tenant = tenant;
    this.id = id;
  }

  /** The hold's id, for UsageRecord.hold_id. */
  public String id() {
    return id;
  }

  /** Lets the hold live and hold more. Where the decision is not DECISION_ALLOW it stays as it was. */
  public ExtendHoldResponse extend(ExtendHoldRequest extension) {
    ExtendHoldRequest request = extension.toBuilder().setTenant(tenant).setHoldId(id).build();
    return client.call(Repeatable.ON_UNAVAILABLE, TaximeterClient.CHECK_TIMEOUT, stub -> stub.extendHold(request));
  }

  /** Frees the hold, for a call that did not happen. Once more is safe; the state is how the hold ended. */
  public HoldState release() {
    ReleaseHoldRequest request = ReleaseHoldRequest.newBuilder().setTenant(tenant).setHoldId(id).build();
    return client.call(Repeatable.ON_UNAVAILABLE, TaximeterClient.CHECK_TIMEOUT, stub -> stub.releaseHold(request)).getState();
  }

  /** Records what the call used; tenant and hold are filled in. */
  public TaximeterClient.Recorded settle(UsageRecord record) {
    return client.record(record.toBuilder().setTenant(tenant).setHoldId(id).build());
  }
}
