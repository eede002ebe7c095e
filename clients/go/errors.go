// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is a call that failed, at the server or on the way. A denied check is none: it is an answer.
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Message is one sentence for people.
	Message string
	// Reason is the cause, a name of taximeterv1.ErrorReason without its prefix. Empty where no server answered.
	Reason string
	// Metadata has the dynamic parts of the message, by name.
	Metadata map[string]string
	// Fields are the fields that the server refused.
	Fields []FieldViolation

	status *status.Status
}

// FieldViolation is a field of a request that the server refused.
type FieldViolation struct {
	// Field is its path, such as "record.usage.reasoning_tokens".
	Field string
	// Description is one sentence for people.
	Description string
}

// Error is the reason, the message, and the fields that it does not name.
func (e *Error) Error() string {
	name := e.Reason
	if name == "" {
		name = e.Code.String()
	}
	text := "taximeter: " + name + ": " + e.Message
	for _, field := range e.Fields {
		if !strings.Contains(e.Message, field.Field) {
			text += "; " + field.Field + ": " + field.Description
		}
	}
	return text
}

// GRPCStatus lets status.FromError and status.Code work on this error.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// NotRecorded says that Record, or the record of a batch, changed nothing. False means unknown: record it again, with the
// same id.
func (e *Error) NotRecorded() bool {
	switch e.Code {
	case codes.InvalidArgument, codes.AlreadyExists, codes.OutOfRange, codes.Unauthenticated,
		codes.PermissionDenied, codes.ResourceExhausted, codes.Unimplemented:
		return true
	default:
		return false
	}
}

func errorOf(err error) *Error {
	return errorOfGRPC(status.Convert(err))
}

func errorOfStatus(failed *rpcstatus.Status) *Error { return errorOfGRPC(status.FromProto(failed)) }

func errorOfGRPC(failed *status.Status) *Error {
	made := &Error{Code: failed.Code(), Message: failed.Message(), status: failed}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Reason, made.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				made.Fields = append(made.Fields, FieldViolation{violation.GetField(), violation.GetDescription()})
			}
		}
	}
	return made
}
