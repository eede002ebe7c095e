// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A call that failed, at the server or on the way. A denied check is none: it is an answer. */
public final class TaximeterException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private static final Set<Status.Code> NOT_RECORDED =
      EnumSet.of(
          Status.Code.INVALID_ARGUMENT,
          Status.Code.ALREADY_EXISTS,
          Status.Code.OUT_OF_RANGE,
          Status.Code.UNAUTHENTICATED,
          Status.Code.PERMISSION_DENIED,
          Status.Code.RESOURCE_EXHAUSTED,
          Status.Code.UNIMPLEMENTED);

  private final Status.Code code;
  private final String reason;
  private final transient Map<String, String> metadata;
  private final transient List<FieldViolation> fields;

  private TaximeterException(com.google.rpc.Status status, ErrorInfo info, BadRequest refused, Throwable cause) {
    super(text(status, info, refused), cause);
    code = Status.fromCodeValue(status.getCode()).getCode();
    reason = info.getReason();
    metadata = Map.copyOf(info.getMetadataMap());
    fields =
        refused.getFieldViolationsList().stream()
            .map(violation -> new FieldViolation(violation.getField(), violation.getDescription()))
            .toList();
  }

  /** The gRPC status. */
  public Status.Code code() {
    return code;
  }

  /** The cause, a name of ErrorReason without its prefix. Empty where no server answered. */
  public String reason() {
    return reason;
  }

  /** The dynamic parts of the message, by name. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** The fields that the server refused. */
  public List<FieldViolation> fields() {
    return fields;
  }

  /**
   * Whether a record, or the record of a batch, certainly changed nothing. False means unknown: record it again, with the
   * same id.
   */
  public boolean isNotRecorded() {
    return NOT_RECORDED.contains(code);
  }

  static TaximeterException of(StatusRuntimeException error) {
    return of(StatusProto.fromThrowable(error), error);
  }

  static TaximeterException of(com.google.rpc.Status status) {
    return of(status, null);
  }

  private static TaximeterException of(com.google.rpc.Status status, Throwable cause) {
    ErrorInfo info = ErrorInfo.getDefaultInstance();
    BadRequest refused = BadRequest.getDefaultInstance();
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          refused = detail.unpack(BadRequest.class);
        }
      }
    } catch (InvalidProtocolBufferException garbage) {
      // A proxy's garbage must not hide the status that came with it.
    }
    return new TaximeterException(status, info, refused, cause);
  }

  private static String text(com.google.rpc.Status status, ErrorInfo info, BadRequest refused) {
    String name =
        info.getReason().isEmpty() ? Status.fromCodeValue(status.getCode()).getCode().name() : info.getReason();
    StringBuilder text = new StringBuilder(name).append(": ").append(status.getMessage());
    for (BadRequest.FieldViolation violation : refused.getFieldViolationsList()) {
      if (!status.getMessage().contains(violation.getField())) {
        text.append("\n  ").append(violation.getField()).append(": ").append(violation.getDescription());
      }
    }
    return text.toString();
  }

  /**
   * A field of a request that the server refused.
   *
   * @param field path of the field, such as "record.usage.reasoning_tokens"
   * @param description one sentence for people
   */
  public record FieldViolation(String field, String description) {}
}
