// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// Outcome is what became of one record of a batch. Exactly one field is set.
type Outcome struct {
	Recorded *taximeterv1.RecordResponse
	Err      *Error
}

// RecordBatch records up to 500 records and returns one outcome for each, in their order. A bad record fails alone, and
// records whose outcome is unknown are sent again. Where an outcome's Err.NotRecorded is still false, record it again.
func (c *Client) RecordBatch(ctx context.Context, records []*taximeterv1.UsageRecord) ([]Outcome, error) {
	for _, record := range records {
		c.name(record)
	}
	sent := batch{records: records, outcomes: make([]Outcome, len(records))}
	for place := range records {
		sent.unknown = append(sent.unknown, place)
	}
	err := c.budget.untilKnown(ctx, recordTimeout, onUnknown, func(ctx context.Context, options ...grpc.CallOption) error {
		answer, err := c.metering.RecordBatch(ctx, sent.request(), options...)
		if err != nil {
			return err
		}
		return sent.take(answer)
	})
	// After a first answer every record has an outcome; a retry that failed leaves them as they are.
	if err != nil && !sent.isAnswered {
		return nil, errorOf(err)
	}
	return sent.outcomes, nil
}

// batch is records on their way: which have an outcome, and which are to be sent again.
type batch struct {
	records    []*taximeterv1.UsageRecord
	outcomes   []Outcome
	unknown    []int
	isAnswered bool
}

func (b *batch) request() *taximeterv1.RecordBatchRequest {
	request := &taximeterv1.RecordBatchRequest{}
	for _, place := range b.unknown {
		request.Records = append(request.Records, b.records[place])
	}
	return request
}

// take reads an answer; errOutcomeUnknown says that it leaves some records unknown.
func (b *batch) take(answer *taximeterv1.RecordBatchResponse) error {
	results := answer.GetResults()
	if len(results) != len(b.unknown) {
		return status.Errorf(codes.Internal, "%d records were answered with %d results", len(b.unknown), len(results))
	}
	var unknown []int
	for i, place := range b.unknown {
		if failed := results[i].GetError(); failed != nil {
			b.outcomes[place] = Outcome{Err: errorOfStatus(failed)}
			if isUnknown(b.outcomes[place].Err.Code) {
				unknown = append(unknown, place)
			}
		} else {
			b.outcomes[place] = Outcome{Recorded: results[i].GetResponse()}
		}
	}
	b.unknown, b.isAnswered = unknown, true
	if len(unknown) > 0 {
		return errOutcomeUnknown
	}
	return nil
}
