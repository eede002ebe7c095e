// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

const (
	checkTimeout  = time.Second
	recordTimeout = 10 * time.Second
)

// Client records usage and asks before calls whether they may go on. It is safe for use by several goroutines; one per
// process is enough.
type Client struct {
	connection *grpc.ClientConn
	metering   taximeterv1.MeteringServiceClient
	recordIDs  *RecordIDs
	budget     *retryBudget
}

// Format leaves out everything that a client holds: its connection knows the key.
func (c *Client) Format(state fmt.State, _ rune) { fmt.Fprint(state, "taximeter.Client") }

// New opens a client. Nothing is sent before the first call. The error says what is wrong with the options.
func New(options Options) (*Client, error) {
	connection, err := dial(options)
	if err != nil {
		return nil, err
	}
	metering := taximeterv1.NewMeteringServiceClient(connection)
	return &Client{connection, metering, NewRecordIDs(), newRetryBudget()}, nil
}

// Close ends the connection and the calls under way.
func (c *Client) Close() error { return c.connection.Close() }

// Connection is the connection with its key and retries, for the stubs of the other services in taximeterv1.
func (c *Client) Connection() grpc.ClientConnInterface { return c.connection }

// Check decides whether a call may go on, within 1 s or the deadline of ctx. A denial is an answer with
// DECISION_DENY. An error means that nothing was decided: whether to go on then is the caller's choice.
func (c *Client) Check(
	ctx context.Context, request *taximeterv1.CheckQuotaRequest,
) (*taximeterv1.CheckQuotaResponse, error) {
	if request.GetHoldTtl() != nil && request.GetRequestId() == "" {
		// A check that is named holds once, however often it is sent.
		request = proto.CloneOf(request)
		request.RequestId = c.recordIDs.New()
	}
	return within(ctx, c, checkTimeout, onUnavailable, request, c.metering.CheckQuota)
}

// Record records what one call used, and returns once that is durable, within 10 s or the deadline of ctx. It sets
// record.RecordId where that is empty, and sends the same record again while the outcome is unknown, so that it is
// charged once. Where an error's NotRecorded is false, call Record again with the same record.
func (c *Client) Record(
	ctx context.Context, record *taximeterv1.UsageRecord,
) (*taximeterv1.RecordResponse, error) {
	c.name(record)
	return within(ctx, c, recordTimeout, onUnknown, &taximeterv1.RecordRequest{Record: record}, c.metering.Record)
}

func (c *Client) name(record *taximeterv1.UsageRecord) {
	if record.GetRecordId() == "" {
		record.RecordId = c.recordIDs.New()
	}
}

// within makes a call that ends after the timeout at the latest, and makes an *Error of its status.
func within[Request, Response any](
	ctx context.Context,
	c *Client,
	timeout time.Duration,
	kind repeatable,
	request *Request,
	call func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
) (*Response, error) {
	var response *Response
	err := c.budget.untilKnown(ctx, timeout, kind, func(ctx context.Context, options ...grpc.CallOption) (err error) {
		response, err = call(ctx, request, options...)
		return err
	})
	if err != nil {
		return nil, errorOf(err)
	}
	return response, nil
}
