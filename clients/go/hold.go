// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// Hold is what a call under way may use: it counts against the limits until Settle, Release, or the end of its time.
type Hold struct {
	client *Client
	tenant string
	id     string
}

// PlaceHold checks a request that has an estimate and a hold_ttl, and holds the estimate. The hold is nil where the
// decision is not DECISION_ALLOW.
func (c *Client) PlaceHold(
	ctx context.Context, request *taximeterv1.CheckQuotaRequest,
) (*Hold, *taximeterv1.CheckQuotaResponse, error) {
	decision, err := c.Check(ctx, request)
	if err != nil || decision.GetHoldId() == "" {
		return nil, decision, err
	}
	return c.HoldOf(request.GetTenant(), decision.GetHoldId()), decision, nil
}

// HoldOf is a hold that was placed before, here or in another process.
func (c *Client) HoldOf(tenant, id string) *Hold { return &Hold{c, tenant, id} }

// ID is the hold's id, for UsageRecord.hold_id.
func (h *Hold) ID() string { return h.id }

// Extend lets the hold live and hold more; tenant and hold_id are filled in. Where the decision is not DECISION_ALLOW the
// hold stays as it was.
func (h *Hold) Extend(
	ctx context.Context, request *taximeterv1.ExtendHoldRequest,
) (*taximeterv1.ExtendHoldResponse, error) {
	request = proto.CloneOf(request)
	request.Tenant, request.HoldId = h.tenant, h.id
	return within(ctx, h.client, checkTimeout, onUnavailable, request, h.client.metering.ExtendHold)
}

// Release frees the hold, for a call that did not happen. Once more is safe; the state is how the hold ended.
func (h *Hold) Release(ctx context.Context) (taximeterv1.HoldState, error) {
	request := &taximeterv1.ReleaseHoldRequest{Tenant: h.tenant, HoldId: h.id}
	answer, err := within(ctx, h.client, checkTimeout, onUnavailable, request, h.client.metering.ReleaseHold)
	return answer.GetState(), err
}

// Settle records what the call used; tenant and hold_id are filled in.
func (h *Hold) Settle(
	ctx context.Context, record *taximeterv1.UsageRecord,
) (*taximeterv1.RecordResponse, error) {
	record.Tenant, record.HoldId = h.tenant, h.id
	return h.client.Record(ctx, record)
}
