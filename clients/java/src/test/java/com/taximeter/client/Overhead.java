// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.taximeter.v1.CheckQuotaRequest;
import com.taximeter.v1.MeteringServiceGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.Arrays;

/**
 * Measures what this client adds to a check: p50 of TaximeterClient.check beside that of the bare generated stub, in turns,
 * on one connection each, against the server that the environment names.
 */
public final class Overhead {
  private static final int CALLS = 500;
  /** A JVM needs some thousand calls before it is as fast as it gets. */
  private static final int WARM_UP_ROUNDS = 10;

  public static void main(String[] arguments) {
    int rounds = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 20;
    String target = System.getenv("TAXIMETER_URL").replace("http://", "");
    ManagedChannel channel = Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).build();
    var headers = new Metadata();
    headers.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
        "Bearer " + System.getenv("TAXIMETER_KEY"));
    var stub =
        MeteringServiceGrpc.newBlockingStub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
    var request = CheckQuotaRequest.newBuilder().setTenant("overhead").setModel("gpt-5").build();
    var ofStub = new long[rounds * CALLS];
    var ofClient = new long[rounds * CALLS];
    try (TaximeterClient client = TaximeterClient.connect(Options.ofEnvironment())) {
      for (int round = -WARM_UP_ROUNDS; round < rounds; round++) {
        measure(ofStub, round, () -> stub.checkQuota(request));
        measure(ofClient, round, () -> client.check(request));
      }
    }
    channel.shutdownNow();
    Arrays.sort(ofStub);
    Arrays.sort(ofClient);
    for (int percent : new int[] {50, 99}) {
      long bare = ofStub[ofStub.length * percent / 100];
      long ours = ofClient[ofClient.length * percent / 100];
      System.out.printf(
          "java p%d: stub %d us, client %d us, client adds %+.1f us%n",
          percent, bare / 1_000, ours / 1_000, (ours - bare) / 1e3);
    }
  }

  private static void measure(long[] times, int round, Runnable call) {
    for (int i = 0; i < CALLS; i++) {
      long began = System.nanoTime();
      call.run();
      if (round >= 0) {
        times[round * CALLS + i] = System.nanoTime() - began;
      }
    }
  }
}
