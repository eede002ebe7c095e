// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ConnectivityState;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** The gRPC channel: TLS, keepalive, and which calls gRPC itself sends again. */
final class Connection {
  private static final String VERSION = "0.1.0";
  private static final int RESPONSE_BYTES_MAX = 64 << 20;
  private static final int FIRST_ATTEMPT_S = 5;
  private static final String METERING = "taximeter.v1.MeteringService";
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Connection() {}

  static ManagedChannel open(Endpoint endpoint) {
    var builder =
        Grpc.newChannelBuilder(endpoint.target(), credentials(endpoint))
            .defaultServiceConfig(serviceConfig())
            .enableRetry()
            .userAgent("taximeter-java/" + VERSION)
            .maxInboundMessageSize(RESPONSE_BYTES_MAX)
            // A connection that died silently is noticed within 40 s, while calls are waiting on it.
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS);
    if (!endpoint.key().isEmpty()) {
      builder.intercept(new Bearer(endpoint.key()));
    }
    return builder.build();
  }

  /** Connects, and waits for at most 5 s until that has come to something. */
  static void awaitFirstAttempt(ManagedChannel channel) {
    var isDecided = new CountDownLatch(1);
    watch(channel, isDecided);
    try {
      // Whatever it came to, calls find out for themselves.
      isDecided.await(FIRST_ATTEMPT_S, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private static void watch(ManagedChannel channel, CountDownLatch isDecided) {
    ConnectivityState state = channel.getState(true);
    if (state == ConnectivityState.IDLE || state == ConnectivityState.CONNECTING) {
      channel.notifyWhenStateChanged(state, () -> watch(channel, isDecided));
    } else {
      isDecided.countDown();
    }
  }

  private static ChannelCredentials credentials(Endpoint endpoint) {
    if (!endpoint.isTls()) {
      return InsecureChannelCredentials.create();
    }
    if (endpoint.caFile().isEmpty()) {
      return TlsChannelCredentials.create();
    }
    try {
      return TlsChannelCredentials.newBuilder().trustManager(new File(endpoint.caFile())).build();
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /**
   * What gRPC sends again by itself: up to 5 attempts with jittered waits from 100 ms to 2 s, out of a budget of a tenth of
   * the calls, and as the server asks for. What {@link Retries} sends again is left to it. CreateKey and what publishes
   * prices is not listed: a second attempt would do more.
   */
  private static Map<String, Object> serviceConfig() {
    var repeatedByClient =
        Map.of(
            "name",
            List.of(
                method("CheckQuota"),
                method("ExtendHold"),
                method("ReleaseHold"),
                method("Record"),
                method("RecordBatch")));
    var levels =
        Map.of(
            "name",
            List.of(method("RecordLevel")),
            "waitForReady",
            true,
            "retryPolicy",
            retries("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"));
    var others = Map.of("name", List.of(Map.of("service", METERING)), "retryPolicy", retries("UNAVAILABLE"));
    return Map.of(
        "methodConfig",
        List.of(repeatedByClient, levels, others),
        "retryThrottling",
        Map.of("maxTokens", 10d, "tokenRatio", 0.1d));
  }

  private static Map<String, Object> method(String name) {
    return Map.of("service", METERING, "method", name);
  }

  private static Map<String, Object> retries(String... statuses) {
    return Map.of(
        "maxAttempts", 5d,
        "initialBackoff", "0.1s",
        "maxBackoff", "2s",
        "backoffMultiplier", 2d,
        "retryableStatusCodes", List.of(statuses));
  }

  /** Sends the key with every call. */
  private record Bearer(String key) implements ClientInterceptor {
    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
      return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
        @Override
        public void start(Listener<A> listener, Metadata headers) {
          headers.put(AUTHORIZATION, "Bearer " + key);
          super.start(listener, headers);
        }
      };
    }
  }
}
