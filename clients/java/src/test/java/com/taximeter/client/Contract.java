// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import com.taximeter.v1.CheckQuotaRequest;
import com.taximeter.v1.CheckQuotaResponse;
import com.taximeter.v1.Decision;
import com.taximeter.v1.ExtendHoldRequest;
import com.taximeter.v1.RecordBatchRequest;
import com.taximeter.v1.UsageRecord;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Instant;

/** Runs the contract suite's calls with this client: one line of JSON in, one out; see tests/cases/contract/README.md. */
public final class Contract {
  private TaximeterClient client;
  private Options options;
  private Hold hold;

  public static void main(String[] arguments) throws Exception {
    var runner = new Contract();
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonObject asked = JsonParser.parseString(line).getAsJsonObject();
      var answer = new JsonObject();
      try {
        answer.add("ok", runner.answer(asked.get("call").getAsString(), asked.getAsJsonObject("with")));
      } catch (TaximeterException error) {
        answer.add("error", failure(error));
      } catch (NumberFormatException error) {
        var invalid = new JsonObject();
        invalid.addProperty("code", "INVALID_VALUE");
        invalid.addProperty("text", shown(error));
        answer.add("error", invalid);
      }
      System.out.println(answer);
    }
    // The gateways' threads would go on.
    System.exit(0);
  }

  private JsonObject answer(String call, JsonObject given) throws Exception {
    return switch (call) {
      case "connect" -> connect(given);
      case "check" -> decision(client.check(read(given, CheckQuotaRequest.newBuilder()).build()));
      case "record" -> recorded(client.record(read(given, UsageRecord.newBuilder()).build()));
      case "record_batch" -> recordBatch(given);
      case "hold" -> place(given);
      case "extend" -> extend(given);
      case "release" -> text("state", hold.release().name());
      case "settle" -> recorded(hold.settle(read(given, UsageRecord.newBuilder()).build()));
      case "gateway" -> text("url", Gateway.start(client));
      case "parse_money" -> text("picos", Money.parsePicos(given.get("text").getAsString()).toString());
      case "show" -> text("text", client + " " + options + " " + Endpoint.resolve(options, System.getenv()));
      case "format_money" -> text("text", formatMoney(given));
      default -> throw new IllegalArgumentException(call);
    };
  }

  private JsonObject connect(JsonObject given) {
    if (client != null) {
      client.close();
    }
    String caFile = given.has("ca_file") ? given.get("ca_file").getAsString() : null;
    options = new Options(given.get("url").getAsString(), given.get("key").getAsString(), caFile);
    client = TaximeterClient.connect(options);
    return new JsonObject();
  }

  private JsonObject recordBatch(JsonObject given) throws InvalidProtocolBufferException {
    var items = new JsonArray();
    for (var outcome : client.recordBatch(read(given, RecordBatchRequest.newBuilder()).getRecordsList())) {
      var item = new JsonObject();
      if (outcome.error() == null) {
        item.add("recorded", recorded(outcome.recorded()));
      } else {
        item.add("error", failure(outcome.error()));
      }
      items.add(item);
    }
    var answer = new JsonObject();
    answer.add("items", items);
    return answer;
  }

  private JsonObject place(JsonObject given) throws InvalidProtocolBufferException {
    var placed = client.placeHold(read(given, CheckQuotaRequest.newBuilder()).build());
    hold = placed.hold().orElse(null);
    return decision(placed.decision());
  }

  private JsonObject extend(JsonObject given) throws InvalidProtocolBufferException {
    var extended = hold.extend(read(given, ExtendHoldRequest.newBuilder()).build());
    JsonObject answer = write(extended);
    answer.addProperty("allowed", extended.getDecision() == Decision.DECISION_ALLOW);
    return answer;
  }

  private static String formatMoney(JsonObject given) {
    return new Money(given.get("currency_code").getAsString(), new BigInteger(given.get("picos").getAsString()))
        .toString();
  }

  private static JsonObject decision(CheckQuotaResponse decided) {
    JsonObject answer = write(decided);
    answer.addProperty("allowed", decided.getDecision() == Decision.DECISION_ALLOW);
    if (decided.hasEstimatedCost()) {
      answer.add("estimated_cost", money(decided.getEstimatedCost()));
    }
    var headers = new JsonObject();
    RateLimitHeaders.of(decided, Instant.now()).forEach(headers::addProperty);
    answer.add("headers", headers);
    return answer;
  }

  private static JsonObject recorded(TaximeterClient.Recorded recorded) {
    JsonObject answer = write(recorded.response());
    answer.addProperty("record_id", recorded.recordId());
    answer.add("cost", money(recorded.response().getCost()));
    return answer;
  }

  private static JsonElement money(com.taximeter.v1.Money message) {
    Money amount = Money.of(message);
    JsonObject answer = text("text", amount.toString());
    answer.addProperty("picos", amount.picos().toString());
    return answer;
  }

  private static JsonObject failure(TaximeterException error) {
    JsonObject answer = text("code", error.code().name());
    answer.addProperty("reason", error.reason());
    answer.addProperty("not_recorded", error.isNotRecorded());
    var metadata = new JsonObject();
    error.metadata().forEach(metadata::addProperty);
    answer.add("metadata", metadata);
    var fields = new JsonArray();
    error.fields().forEach(violation -> fields.add(violation.field()));
    answer.add("fields", fields);
    answer.addProperty("text", shown(error));
    return answer;
  }

  /** As a log shows it, with its causes. */
  private static String shown(Exception error) {
    var written = new StringWriter();
    error.printStackTrace(new PrintWriter(written, true));
    return written.toString();
  }

  private static JsonObject text(String name, String value) {
    var answer = new JsonObject();
    answer.addProperty(name, value);
    return answer;
  }

  private static <B extends Message.Builder> B read(JsonObject given, B builder)
      throws InvalidProtocolBufferException {
    JsonFormat.parser().merge(given.toString(), builder);
    return builder;
  }

  private static JsonObject write(MessageOrBuilder message) {
    try {
      return JsonParser.parseString(JsonFormat.printer().preservingProtoFieldNames().print(message)).getAsJsonObject();
    } catch (InvalidProtocolBufferException impossible) {
      throw new IllegalStateException(impossible);
    }
  }
}
