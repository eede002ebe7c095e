// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.taximeter.v1.RecordBatchRequest;
import com.taximeter.v1.RecordBatchResponse;
import com.taximeter.v1.UsageRecord;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/** Records on their way: which have an outcome, and which are to be sent again. */
final class Batch {
  private final List<UsageRecord> records;
  private final TaximeterClient.Outcome[] outcomes;
  private List<Integer> unknown;
  private boolean isAnswered;

  Batch(List<UsageRecord> records) {
    this.records = records;
    outcomes = new TaximeterClient.Outcome[records.size()];
    unknown = IntStream.range(0, records.size()).boxed().toList();
  }

  /** What is to be sent. */
  RecordBatchRequest request() {
    RecordBatchRequest.Builder request = RecordBatchRequest.newBuilder();
    unknown.forEach(place -> request.addRecords(records.get(place)));
    return request.build();
  }

  /** Whether every record has an outcome, though it may be that it is unknown. */
  boolean isAnswered() {
    return isAnswered;
  }

  /** The outcome of each record, in their order. */
  List<TaximeterClient.Outcome> outcomes() {
    return Arrays.asList(outcomes);
  }

  /** Reads an answer. Throws OutcomeUnknown while it leaves some records unknown. */
  void take(RecordBatchResponse answer) {
    if (answer.getResultsCount() != unknown.size()) {
      String text = unknown.size() + " records were answered with " + answer.getResultsCount() + " results";
      throw Status.INTERNAL.withDescription(text).asRuntimeException();
    }
    List<Integer> stillUnknown = new ArrayList<>();
    for (int i = 0; i < unknown.size(); i++) {
      int place = unknown.get(i);
      var result = answer.getResults(i);
      if (result.hasError()) {
        outcomes[place] = new TaximeterClient.Outcome(null, TaximeterException.of(result.getError()));
        if (Retries.isUnknown(outcomes[place].error().code())) {
          stillUnknown.add(place);
        }
      } else {
        String recordId = records.get(place).getRecordId();
        var recorded = new TaximeterClient.Recorded(recordId, result.getResponse());
        outcomes[place] = new TaximeterClient.Outcome(recorded, null);
      }
    }
    unknown = stillUnknown;
    isAnswered = true;
    if (!unknown.isEmpty()) {
      throw new Retries.OutcomeUnknown();
    }
  }
}
