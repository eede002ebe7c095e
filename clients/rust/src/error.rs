// SPDX-License-Identifier: Apache-2.0
//! Calls that failed.

use std::collections::BTreeMap;
use std::fmt;

use prost::Message;
use tonic::Code;

use crate::rpc;

/// A call that failed, at the server or on the way. A denied check is none: it is an answer.
#[derive(Clone, Debug)]
pub struct Error {
    /// The gRPC status.
    pub code: Code,
    /// One sentence for people.
    pub message: String,
    /// The cause, a name of [`crate::v1::ErrorReason`] without its prefix. Empty where no server answered.
    pub reason: String,
    /// The dynamic parts of the message, by name.
    pub metadata: BTreeMap<String, String>,
    /// The fields that the server refused.
    pub fields: Vec<FieldViolation>,
}

/// A field of a request that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, such as `record.usage.reasoning_tokens`.
    pub field: String,
    /// One sentence for people.
    pub description: String,
}

impl Error {
    /// Whether a record, or the record of a batch, certainly changed nothing. False means unknown: record it again,
    /// with the same id.
    #[must_use]
    pub fn is_not_recorded(&self) -> bool {
        matches!(
            self.code,
            Code::InvalidArgument
                | Code::AlreadyExists
                | Code::OutOfRange
                | Code::Unauthenticated
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::Unimplemented
        )
    }

    /// The error of a status, such as one record of a batch carries.
    pub(crate) fn of_status(status: rpc::Status) -> Self {
        let mut made = Self {
            code: Code::from_i32(status.code),
            message: status.message,
            reason: String::new(),
            metadata: BTreeMap::new(),
            fields: Vec::new(),
        };
        for detail in &status.details {
            // What cannot be read is left out: it must not hide the status that came with it.
            match detail.type_url.rsplit('/').next() {
                Some("google.rpc.ErrorInfo") => {
                    if let Ok(info) = rpc::ErrorInfo::decode(detail.value.as_slice()) {
                        made.reason = info.reason;
                        made.metadata = info.metadata.into_iter().collect();
                    }
                }
                Some("google.rpc.BadRequest") => {
                    if let Ok(refused) = rpc::BadRequest::decode(detail.value.as_slice()) {
                        made.fields = refused
                            .field_violations
                            .into_iter()
                            .map(FieldViolation::from)
                            .collect();
                    }
                }
                _ => {}
            }
        }
        made
    }
}

impl From<rpc::bad_request::FieldViolation> for FieldViolation {
    fn from(violation: rpc::bad_request::FieldViolation) -> Self {
        Self {
            field: violation.field,
            description: violation.description,
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let code = status.code();
        let message = status.message().to_owned();
        let detailed = rpc::Status::decode(status.details()).unwrap_or_default();
        Self {
            code,
            message,
            ..Self::of_status(detailed)
        }
    }
}

impl fmt::Display for Error {
    /// Writes the reason, the message, and the fields that it does not name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{:?}: {}", self.code, self.message)?;
        } else {
            write!(f, "{}: {}", self.reason, self.message)?;
        }
        for violation in self
            .fields
            .iter()
            .filter(|violation| !self.message.contains(&violation.field))
        {
            write!(f, "\n  {}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
