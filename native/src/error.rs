// SPDX-License-Identifier: Apache-2.0
//! One failure type for every call served here, with one conversion to `google.rpc.Status`.
//!
//! A failure knows its gRPC code, its reason, the facts of its message and the fields it concerns. Nothing that the
//! store or the operating system says ever becomes part of it.

use std::borrow::Cow;

use prost::Message;

use crate::proto::google::rpc;
use crate::proto::taximeter::v1::ErrorReason;

/// Domain of every `ErrorInfo`.
const DOMAIN: &str = "taximeter.dev";
/// More violations than this are not listed.
const VIOLATION_COUNT_MAX: usize = 20;

/// gRPC status codes that calls served here end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    Unauthenticated,
}

impl Code {
    /// Number on the wire.
    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }
}

impl Code {
    /// Whether a call ended before any work was done for it.
    pub(crate) const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Unauthenticated | Self::PermissionDenied | Self::ResourceExhausted | Self::Unimplemented
        )
    }
}

/// One field that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) reason: ErrorReason,
    pub(crate) description: Cow<'static, str>,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    reason: ErrorReason,
    message: Cow<'static, str>,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<Violation>,
}

impl Failure {
    /// A failure without fields.
    pub(crate) fn new(code: Code, reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Adds a fact of the message under its name.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// A failure of one or more fields; `violations` must not be empty.
    pub(crate) fn invalid(code: Code, mut violations: Vec<Violation>) -> Self {
        violations.truncate(VIOLATION_COUNT_MAX);
        let reason = violations
            .first()
            .map_or(ErrorReason::FieldInvalid, |first| first.reason);
        let mut message = String::new();
        for violation in &violations {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str(&violation.field);
            message.push_str(": ");
            message.push_str(&violation.description);
        }
        let metadata = violations
            .first()
            .map(|first| ("field", first.field.clone()))
            .into_iter()
            .collect();
        Self {
            code,
            reason,
            message: message.into(),
            metadata,
            violations,
        }
    }

    /// Whether nobody could say yes or no: neither did anything.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(
            self.reason,
            ErrorReason::QuotaUndecided | ErrorReason::CatalogueStale
        )
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The `reason` of `ErrorInfo`: the enum value without its prefix.
    fn reason_name(&self) -> &'static str {
        self.reason.as_str_name().trim_start_matches("ERROR_REASON_")
    }

    /// The status with its details.
    pub(crate) fn to_status(&self) -> rpc::Status {
        let info = rpc::ErrorInfo {
            reason: self.reason_name().to_owned(),
            domain: DOMAIN.to_owned(),
            metadata: self
                .metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        };
        let mut details = vec![any("google.rpc.ErrorInfo", &info)];
        if !self.violations.is_empty() {
            details.push(any("google.rpc.BadRequest", &self.bad_request()));
        }
        rpc::Status {
            code: self.code.number(),
            message: self.message.to_string(),
            details,
        }
    }

    fn bad_request(&self) -> rpc::BadRequest {
        let field_violations = self
            .violations
            .iter()
            .map(|violation| rpc::bad_request::FieldViolation {
                field: violation.field.clone(),
                description: violation.description.to_string(),
                reason: violation
                    .reason
                    .as_str_name()
                    .trim_start_matches("ERROR_REASON_")
                    .to_owned(),
                ..Default::default()
            })
            .collect();
        rpc::BadRequest { field_violations }
    }
}

/// One field of the request that is wrong.
pub(crate) fn invalid_field(field: &str, reason: ErrorReason, description: &'static str) -> Failure {
    let violation = Violation {
        field: field.to_owned(),
        reason,
        description: description.into(),
    };
    Failure::invalid(Code::InvalidArgument, vec![violation])
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

/// Bytes that are no message of the expected type.
pub(crate) fn malformed() -> Failure {
    Failure::new(
        Code::InvalidArgument,
        ErrorReason::MalformedMessage,
        "request is not a valid message",
    )
}

/// The call's deadline has passed.
pub(crate) fn deadline_exceeded() -> Failure {
    Failure::new(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        "deadline exceeded",
    )
}

/// Something that only a defect can cause.
pub(crate) fn internal(error_id: &str) -> Failure {
    Failure::new(Code::Internal, ErrorReason::Internal, "internal error").with("error_id", error_id)
}

/// A method or field that is not served yet.
pub(crate) fn not_served(field: &'static str) -> Failure {
    Failure::new(
        Code::Unimplemented,
        ErrorReason::NotServed,
        format!("{field}: not yet served"),
    )
    .with("field", field)
}
