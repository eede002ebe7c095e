// SPDX-License-Identifier: Apache-2.0
import type { MessageInitShape } from "@bufbuild/protobuf";

import { TaximeterError } from "./errors.js";
import type {
  RecordBatchRequestSchema,
  RecordBatchResponse,
  RecordResponse,
} from "./gen/taximeter/v1/metering_service_pb.js";
import type { UsageRecordSchema } from "./gen/taximeter/v1/usage_pb.js";
import { isUnknown, OutcomeUnknown } from "./retry.js";

/** The fields of a record. */
export type UsageRecordInit = MessageInitShape<typeof UsageRecordSchema>;
/** The answer to a record, with the id under which it was recorded. */
export type Recorded = RecordResponse & { readonly recordId: string };
/** What became of one record of a batch. */
export type Outcome =
  | { readonly recorded: Recorded; readonly error?: undefined }
  | { readonly recorded?: undefined; readonly error: TaximeterError };

/** Records on their way: which have an outcome, and which are to be sent again. */
export class Batch {
  readonly outcomes: Outcome[] = [];
  readonly #records: readonly (UsageRecordInit & { recordId: string })[];
  #unknown: number[];

  constructor(records: readonly (UsageRecordInit & { recordId: string })[]) {
    this.#records = records;
    this.#unknown = [...records.keys()];
  }

  /** Returns what is to be sent. */
  request(): MessageInitShape<typeof RecordBatchRequestSchema> {
    return { records: this.#unknown.map((place) => this.#at(place)) };
  }

  /** Reads an answer. Throws OutcomeUnknown while it leaves some records unknown. */
  take({ results }: RecordBatchResponse): void {
    const sent = this.#unknown;
    if (results.length !== sent.length) {
      throw TaximeterError.internal(`${sent.length} records were answered with ${results.length} results`);
    }
    this.#unknown = [];
    results.forEach(({ outcome }, i) => {
      const place = sent[i] as number;
      if (outcome.case === "response") {
        this.outcomes[place] = { recorded: Object.assign(outcome.value, { recordId: this.#at(place).recordId }) };
        return;
      }
      const error = TaximeterError.ofStatus(outcome.value as NonNullable<typeof outcome.value>);
      this.outcomes[place] = { error };
      if (isUnknown(error.code)) this.#unknown.push(place);
    });
    if (this.#unknown.length > 0) throw new OutcomeUnknown();
  }

  #at(place: number): UsageRecordInit & { recordId: string } {
    return this.#records[place] as UsageRecordInit & { recordId: string };
  }
}
