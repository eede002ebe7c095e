// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
	"net"
	"os"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// usingServer is a service that uses ten tokens per call.
type usingServer struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (usingServer) Check(
	ctx context.Context, _ *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	useTen(ctx)
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (usingServer) Watch(
	_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse],
) error {
	useTen(stream.Context())
	return stream.Send(&grpc_health_v1.HealthCheckResponse{})
}

func useTen(ctx context.Context) {
	usage := &taximeterv1.Usage{VisibleOutputTokens: 10}
	CallFrom(ctx).Use(&taximeterv1.UsageRecord{
		Model: "gpt-5", Payload: &taximeterv1.UsageRecord_Usage{Usage: usage},
	})
}

func clientOfEnvironment(t *testing.T) *Client {
	if os.Getenv("TAXIMETER_URL") == "" {
		t.Skip("TAXIMETER_URL names no server")
	}
	client, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// serve runs the using server behind the interceptors, and is a client of it.
func serve(t *testing.T, client *Client, tenant string) grpc_health_v1.HealthClient {
	check := func(context.Context, string, any) *taximeterv1.CheckQuotaRequest {
		return &taximeterv1.CheckQuotaRequest{
			Tenant: tenant, Model: "gpt-5",
			Estimate: &taximeterv1.Usage{VisibleOutputTokens: 15}, HoldTtl: durationpb.New(60e9),
		}
	}
	metering := Metering{OnError: func(_ *Call, err error) { t.Error(err) }}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(UnaryServerInterceptor(client, check, metering)),
		grpc.StreamInterceptor(StreamServerInterceptor(client, check, metering)),
	)
	grpc_health_v1.RegisterHealthServer(server, usingServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.GracefulStop)
	connection, err := grpc.NewClient(
		listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return grpc_health_v1.NewHealthClient(connection)
}

// Calls and streams are checked before and recorded after; the one that does not fit any more is RESOURCE_EXHAUSTED.
func TestInterceptors(t *testing.T) {
	client := clientOfEnvironment(t)
	tenant := "interceptors-" + NewRecordIDs().New()
	limits := int64(30)
	_, err := taximeterv1.NewTenantServiceClient(client.Connection()).PutTenant(t.Context(), &taximeterv1.PutTenantRequest{
		Tenant: &taximeterv1.Tenant{Name: tenant, Limits: &taximeterv1.Limits{TokensPerDay: &limits}},
	})
	if err != nil {
		t.Fatal(err)
	}
	service := serve(t, client, tenant)

	if _, err := service.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	stream, err := service.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	_, denied := service.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if status.Code(denied) != codes.ResourceExhausted {
		t.Errorf("20 of 30 tokens are used, and 15 more are answered with %v", denied)
	}
	answer, err := client.Check(t.Context(), &taximeterv1.CheckQuotaRequest{Tenant: tenant, DryRun: true})
	if err != nil || answer.GetLimits()[0].GetUsed() != 20 || answer.GetLimits()[0].GetHeld() != 0 {
		t.Errorf("%v, %v", answer, err)
	}
}
