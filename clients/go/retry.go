// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	attemptsMax  = 5
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 2 * time.Second
	// The server answers or fails within 2 s; what takes longer was lost on the way.
	attemptMax = 2500 * time.Millisecond
	// A retry costs a token and a call earns a tenth of one: when every call fails, retries would multiply the load on a
	// server that cannot bear it already.
	budgetTenthsMax   = 1_000
	budgetTenthsRetry = 10
	pushbackKey       = "grpc-retry-pushback-ms"
)

// repeatable says on which statuses a call may be sent again.
type repeatable int

const (
	// Only where the server could not answer, and within the deadline of the one call.
	onUnavailable repeatable = iota
	// On every status that leaves the outcome unknown; a server that restarts is waited for.
	onUnknown
)

// errOutcomeUnknown is an answer that leaves some records unknown: they are to be sent again.
var errOutcomeUnknown = errors.New("some records have no outcome")

// retryBudget is what may be sent again: a tenth of what is sent, and a reserve.
type retryBudget struct {
	mutex  sync.Mutex
	tenths int
}

func newRetryBudget() *retryBudget { return &retryBudget{tenths: budgetTenthsMax} }

func (b *retryBudget) earn() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.tenths = min(b.tenths+1, budgetTenthsMax)
}

func (b *retryBudget) spend() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.tenths < budgetTenthsRetry {
		return false
	}
	b.tenths -= budgetTenthsRetry
	return true
}

// untilKnown makes a call until its outcome is known: an answer, or a status that is final; at most five times, and
// within the timeout or the deadline of ctx. The error is that of the last attempt, or of the one before where the time
// was over before the server could say anything new.
func (b *retryBudget) untilKnown(
	ctx context.Context, timeout time.Duration, kind repeatable, attempt func(context.Context, ...grpc.CallOption) error,
) error {
	if _, has := ctx.Deadline(); !has {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	b.earn()
	var known error
	for number := 1; ; number++ {
		trailer, err := once(ctx, kind, number > 1, attempt)
		if err == nil {
			return nil
		}
		if known == nil || !isOutOfTime(err) {
			known = err
		}
		wait, may := waitAfter(err, kind, number, trailer)
		if !may || !hasRoomFor(ctx, wait) || !b.spend() {
			return known
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-time.After(wait):
		}
	}
}

// once makes one attempt; with its error come the trailers of the answer.
func once(
	ctx context.Context, kind repeatable, isRetry bool, attempt func(context.Context, ...grpc.CallOption) error,
) (metadata.MD, error) {
	var trailer metadata.MD
	options := []grpc.CallOption{grpc.Trailer(&trailer)}
	if kind == onUnknown {
		limited, cancel := context.WithTimeout(ctx, attemptMax)
		defer cancel()
		ctx = limited
		options = append(options, grpc.WaitForReady(isRetry))
	}
	err := attempt(ctx, options...)
	return trailer, err
}

// waitAfter is how long to wait after a failed attempt, and whether another may follow at all.
func waitAfter(err error, kind repeatable, number int, trailer metadata.MD) (time.Duration, bool) {
	asked := trailer.Get(pushbackKey)
	code := status.Code(err)
	may := code == codes.Unavailable || kind == onUnknown && isUnknown(code) ||
		// The server says when it will have time.
		code == codes.ResourceExhausted && len(asked) > 0
	if !may || number == attemptsMax {
		return 0, false
	}
	if len(asked) > 0 {
		// What is no number means "not again", as gRPC has it.
		ms, err := strconv.ParseUint(asked[0], 10, 31)
		return time.Duration(ms) * time.Millisecond, err == nil
	}
	longest := min(backoffFirst<<(number-1), backoffMax)
	return rand.N(longest + 1), true
}

func hasRoomFor(ctx context.Context, wait time.Duration) bool {
	deadline, _ := ctx.Deadline()
	return wait < deadline.Sub(systemClock())
}

// isUnknown says that a status leaves open whether a record was recorded, and that sending it again may tell.
func isUnknown(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown:
		return true
	default:
		return false
	}
}

func isOutOfTime(err error) bool { return status.Code(err) == codes.DeadlineExceeded }
