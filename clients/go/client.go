// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
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
}

// New opens a client. Nothing is sent before the first call. The error says what is wrong with the options.
func New(options Options) (*Client, error) {
	connection, err := dial(options)
	if err != nil {
		return nil, err
	}
	return &Client{connection, taximeterv1.NewMeteringServiceClient(connection), NewRecordIDs()}, nil
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
	return within(ctx, checkTimeout, request, c.metering.CheckQuota)
}

// Record records what one call used, and returns once that is durable, within 10 s or the deadline of ctx. It sets
// record.RecordId where that is empty, and sends the same record again while the outcome is unknown, so that it is
// charged once. Where an error's NotRecorded is false, call Record again with the same record.
func (c *Client) Record(
	ctx context.Context, record *taximeterv1.UsageRecord,
) (*taximeterv1.RecordResponse, error) {
	c.name(record)
	return within(ctx, recordTimeout, &taximeterv1.RecordRequest{Record: record}, c.metering.Record)
}

// Outcome is what became of one record of a batch. Exactly one field is set.
type Outcome struct {
	Recorded *taximeterv1.RecordResponse
	Err      *Error
}

// RecordBatch records up to 500 records and returns one outcome for each, in their order. A bad record fails alone. Where
// an outcome's Err.NotRecorded is false, record it again.
func (c *Client) RecordBatch(ctx context.Context, records []*taximeterv1.UsageRecord) ([]Outcome, error) {
	for _, record := range records {
		c.name(record)
	}
	request := &taximeterv1.RecordBatchRequest{Records: records}
	answer, err := within(ctx, recordTimeout, request, c.metering.RecordBatch)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(answer.GetResults()))
	for i, result := range answer.GetResults() {
		if failed := result.GetError(); failed != nil {
			outcomes[i].Err = errorOfStatus(failed)
		} else {
			outcomes[i].Recorded = result.GetResponse()
		}
	}
	return outcomes, nil
}

func (c *Client) name(record *taximeterv1.UsageRecord) {
	if record.GetRecordId() == "" {
		record.RecordId = c.recordIDs.New()
	}
}

// within makes a call that ends after the timeout at the latest, and makes an *Error of its status.
func within[Request, Response any](
	ctx context.Context,
	timeout time.Duration,
	request *Request,
	call func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
) (*Response, error) {
	if _, has := ctx.Deadline(); !has {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	response, err := call(ctx, request)
	if err != nil {
		return nil, errorOf(err)
	}
	return response, nil
}
