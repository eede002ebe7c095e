// SPDX-License-Identifier: Apache-2.0

package examples;

import com.taximeter.client.Money;
import com.taximeter.client.Options;
import com.taximeter.client.TaximeterClient;
import com.taximeter.v1.CheckQuotaRequest;
import com.taximeter.v1.Decision;
import com.taximeter.v1.Usage;
import com.taximeter.v1.UsageRecord;

/** One check and one record, against the server on this machine. */
public final class Quickstart {
  public static void main(String[] arguments) {
    try (TaximeterClient client = TaximeterClient.connect(Options.ofEnvironment())) {
      var check = CheckQuotaRequest.newBuilder().setTenant("acme/research").setModel("gpt-5").build();
      var decision = client.check(check);
      if (decision.getDecision() != Decision.DECISION_ALLOW) {
        System.out.println("denied; try again in " + decision.getRetryAfter().getSeconds() + " s");
        return;
      }

      // Here the model is called; these are the numbers of its answer.
      var usage =
          Usage.newBuilder()
              .setUncachedInputTokens(1_200)
              .setCacheReadTokens(800)
              .setVisibleOutputTokens(300);
      var recorded =
          client.record(
              UsageRecord.newBuilder()
                  .setTenant("acme/research")
                  .setModel("gpt-5")
                  .setUsage(usage)
                  .putAttributes("workflow_uuid", "demo")
                  .build());
      System.out.println("recorded: " + Money.of(recorded.response().getCost()));
    }
  }
}
