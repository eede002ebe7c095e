// SPDX-License-Identifier: Apache-2.0
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { status as Code, type ServiceError } from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "./gen/google/rpc/status_pb.js";

/** A field of a request that the server refused. */
export interface FieldViolation {
  /** Path of the field, such as "record.usage.reasoning_tokens". */
  readonly field: string;
  /** One sentence for people. */
  readonly description: string;
}

const NOT_RECORDED: ReadonlySet<Code> = new Set([
  Code.INVALID_ARGUMENT,
  Code.ALREADY_EXISTS,
  Code.OUT_OF_RANGE,
  Code.UNAUTHENTICATED,
  Code.PERMISSION_DENIED,
  Code.RESOURCE_EXHAUSTED,
  Code.UNIMPLEMENTED,
]);

/** A call that failed, at the server or on the way. A denied check is none: it is an answer. */
export class TaximeterError extends Error {
  override readonly name = "TaximeterError";

  private constructor(
    /** The gRPC status. */
    readonly code: Code,
    message: string,
    /** The cause, a name of ErrorReason without its prefix. Empty where no server answered. */
    readonly reason: string,
    /** The dynamic parts of the message, by name. */
    readonly metadata: Readonly<Record<string, string>>,
    /** The fields that the server refused. */
    readonly fields: readonly FieldViolation[],
  ) {
    const unnamed = fields.filter((violation) => !message.includes(violation.field));
    const tail = unnamed.map((violation) => `\n  ${violation.field}: ${violation.description}`);
    super(`${reason || Code[code]}: ${message}${tail.join("")}`);
  }

  /** The name of the gRPC status, such as "INVALID_ARGUMENT". */
  get codeName(): string {
    return Code[this.code];
  }

  /**
   * Whether Record, or the record of a batch, certainly changed nothing. False means unknown: record it again, with the
   * same id.
   */
  get notRecorded(): boolean {
    return NOT_RECORDED.has(this.code);
  }

  /** Returns the error for a call that failed. */
  static ofCall(error: ServiceError): TaximeterError {
    const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
    if (details instanceof Uint8Array) {
      try {
        return TaximeterError.ofStatus(fromBinary(StatusSchema, details));
      } catch {
        // A proxy's garbage must not hide the status that came with it.
      }
    }
    return new TaximeterError(error.code, error.details, "", {}, []);
  }

  /** Returns the error for an answer that makes no sense. */
  static internal(message: string): TaximeterError {
    return new TaximeterError(Code.INTERNAL, message, "", {}, []);
  }

  /** Returns the error for a status, such as one record of a batch carries. */
  static ofStatus(status: Status): TaximeterError {
    let [reason, metadata, fields]: [string, Record<string, string>, FieldViolation[]] = ["", {}, []];
    for (const detail of status.details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info) [reason, metadata] = [info.reason, info.metadata];
      const badRequest = anyUnpack(detail, BadRequestSchema);
      if (badRequest) {
        fields = badRequest.fieldViolations.map(({ field, description }) => ({ field, description }));
      }
    }
    const code = status.code in Code ? (status.code as Code) : Code.UNKNOWN;
    return new TaximeterError(code, status.message, reason, metadata, fields);
  }
}
