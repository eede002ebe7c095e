// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
	"errors"
	"sync"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// Metering says how a middleware meters.
type Metering struct {
	// FailOpen lets calls pass that cannot be decided. They are recorded all the same. By default they are refused.
	FailOpen bool
	// OnError is told of records and holds that failed after the call; without it they are lost silently.
	OnError func(*Call, error)
}

// Call is one call behind a middleware: what it used is recorded when it ends.
type Call struct {
	// Decision is the answer to the check. Nil where nothing was decided and FailOpen lets the call pass.
	Decision *taximeterv1.CheckQuotaResponse

	client   *Client
	metering Metering
	tenant   string

	mutex   sync.Mutex
	records []*taximeterv1.UsageRecord
}

type callKey struct{}

// CallFrom is the metered call that a handler serves; nil where the middleware does not meter it.
func CallFrom(ctx context.Context) *Call {
	call, _ := ctx.Value(callKey{}).(*Call)
	return call
}

// Use says what the call used, once for each model or tool that it called. It is recorded when the handler has returned;
// the first settles the hold, where there is one. Without a tenant it is that of the check. On a nil Call it does nothing.
func (c *Call) Use(record *taximeterv1.UsageRecord) {
	if c == nil {
		return
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if record.GetTenant() == "" {
		record.Tenant = c.tenant
	}
	if len(c.records) == 0 && record.GetHoldId() == "" {
		record.HoldId = c.Decision.GetHoldId()
	}
	c.records = append(c.records, record)
}

// begin asks whether the call may go on. Where an error comes with a call, the call goes on undecided.
func begin(ctx context.Context, client *Client, metering Metering, request *taximeterv1.CheckQuotaRequest) (*Call, error) {
	call := &Call{client: client, metering: metering, tenant: request.GetTenant()}
	decision, err := client.Check(ctx, request)
	if err != nil && !metering.FailOpen {
		return nil, err
	}
	call.Decision = decision
	return call, nil
}

func (c *Call) isAllowed() bool {
	return c.Decision == nil || c.Decision.GetDecision() == taximeterv1.Decision_DECISION_ALLOW
}

// finish records what was used, or frees the hold. The caller may have gone: what happened is charged all the same.
func (c *Call) finish(ctx context.Context) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	var failed error
	for _, record := range c.records {
		_, err := c.client.Record(ctx, record)
		failed = errors.Join(failed, err)
	}
	if hold := c.Decision.GetHoldId(); hold != "" && len(c.records) == 0 {
		_, err := c.client.HoldOf(c.tenant, hold).Release(ctx)
		failed = errors.Join(failed, err)
	}
	if failed != nil && c.metering.OnError != nil {
		c.metering.OnError(c, failed)
	}
}
