// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
	"crypto/tls"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	version          = "0.1.0"
	responseBytesMax = 64 << 20
)

// serviceConfig says what gRPC sends again by itself: up to 5 attempts with jittered waits from 100 ms to 2 s, out of a
// budget of a tenth of the calls, and as the server asks for. What the client sends again by itself is left to it.
// CreateKey and what publishes prices is not listed: a second attempt would do more.
const serviceConfig = `{
  "methodConfig": [
    {
      "name": [
        {"service": "taximeter.v1.MeteringService", "method": "CheckQuota"},
        {"service": "taximeter.v1.MeteringService", "method": "ExtendHold"},
        {"service": "taximeter.v1.MeteringService", "method": "ReleaseHold"},
        {"service": "taximeter.v1.MeteringService", "method": "Record"},
        {"service": "taximeter.v1.MeteringService", "method": "RecordBatch"}
      ]
    },
    {
      "name": [{"service": "taximeter.v1.MeteringService", "method": "RecordLevel"}],
      "waitForReady": true,
      "retryPolicy": {
        "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"]
      }
    },
    {
      "name": [{"service": "taximeter.v1.MeteringService"}],
      "retryPolicy": {
        "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"]
      }
    }
  ],
  "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}`

// bearer sends the key with every call, over plain text too: to this machine, or where the caller wrote http://.
type bearer struct{ header map[string]string }

// GetRequestMetadata is the header of a call.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return b.header, nil
}

// RequireTransportSecurity says that the scheme of the URL decides.
func (b bearer) RequireTransportSecurity() bool { return false }

func dial(options Options) (*grpc.ClientConn, error) {
	found, err := resolve(options, os.Getenv)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if found.isTLS {
		transport = credentials.NewTLS(&tls.Config{RootCAs: found.roots, MinVersion: tls.VersionTLS12})
	}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithUserAgent("taximeter-go/" + version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(responseBytesMax)),
		// A connection that died silently is noticed within 40 s, while calls are waiting on it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A server that restarts is back within seconds; the default would wait up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if found.key != "" {
		header := map[string]string{"authorization": "Bearer " + found.key}
		dialOptions = append(dialOptions, grpc.WithPerRPCCredentials(bearer{header}))
	}
	if found.isLoopback {
		dialOptions = append(dialOptions, grpc.WithNoProxy())
	}
	return grpc.NewClient("dns:///"+found.target, append(dialOptions, options.DialOptions...)...)
}
