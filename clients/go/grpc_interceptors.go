// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// GRPCCheck is the check to make before a call is served. message is nil for streams. Nil means that the call is not
// metered.
type GRPCCheck func(ctx context.Context, method string, message any) *taximeterv1.CheckQuotaRequest

// UnaryServerInterceptor checks before the handler and records after it what the handler says with CallFrom(ctx).Use. A
// denied call is answered with RESOURCE_EXHAUSTED and RetryInfo where waiting helps, one that cannot be decided with
// UNAVAILABLE.
func UnaryServerInterceptor(client *Client, check GRPCCheck, metering Metering) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, message any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		call, err := admit(ctx, client, metering, check(ctx, info.FullMethod, message))
		if err != nil {
			return nil, err
		}
		if call == nil {
			return next(ctx, message)
		}
		defer call.finish(ctx)
		return next(context.WithValue(ctx, callKey{}, call), message)
	}
}

// StreamServerInterceptor does for streams what UnaryServerInterceptor does for calls.
func StreamServerInterceptor(client *Client, check GRPCCheck, metering Metering) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		ctx := stream.Context()
		call, err := admit(ctx, client, metering, check(ctx, info.FullMethod, nil))
		if err != nil {
			return err
		}
		if call == nil {
			return next(server, stream)
		}
		defer call.finish(ctx)
		return next(server, &meteredStream{stream, context.WithValue(ctx, callKey{}, call)})
	}
}

type meteredStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is that of the stream, with its call.
func (s *meteredStream) Context() context.Context { return s.ctx }

func admit(
	ctx context.Context, client *Client, metering Metering, request *taximeterv1.CheckQuotaRequest,
) (*Call, error) {
	if request == nil {
		return nil, nil
	}
	call, err := begin(ctx, client, metering, request)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "whether the call may go on could not be decided")
	}
	if call.isAllowed() {
		return call, nil
	}
	denied := status.New(codes.ResourceExhausted, "a limit of the tenant denies this call")
	if wait := call.Decision.GetRetryAfter(); wait != nil {
		if detailed, err := denied.WithDetails(&errdetails.RetryInfo{RetryDelay: wait}); err == nil {
			denied = detailed
		}
	}
	return nil, denied.Err()
}
