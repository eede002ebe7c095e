// SPDX-License-Identifier: Apache-2.0
//! Messages as JSON, by the protobuf JSON mapping: 64-bit integers are strings, times are RFC 3339, names are in
//! camelCase; either spelling of a name is read.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::{Value, json};

use crate::error::{Code, Failure, internal};
use crate::proto::google::rpc::Status;
use crate::proto::taximeter::v1::ErrorReason;

/// Descriptors of all services, from the build.
static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/services.bin")).as_slice()).ok()
});

/// The method of a path; None when no service has it.
pub(crate) fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let service = POOL.as_ref()?.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}

/// A JSON text as an encoded message. Fails with what is wrong and where.
pub(crate) fn encode(text: &[u8], kind: MessageDescriptor) -> Result<Vec<u8>, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize(kind, &mut reader)
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|error| {
            let message = format!("request is not valid JSON for this method: {error}");
            Failure::new(Code::InvalidArgument, ErrorReason::MalformedMessage, message)
        })?;
    Ok(message.encode_to_vec())
}

/// An encoded message as a JSON text.
pub(crate) fn decode(message: Bytes, kind: MessageDescriptor) -> Result<Vec<u8>, Failure> {
    let message = DynamicMessage::decode(kind, message).map_err(|_| internal("json"))?;
    serde_json::to_vec(&message).map_err(|_| internal("json"))
}

/// A status as the JSON of the Connect protocol's errors: code, message, and each detail encoded and readable.
pub(crate) fn error(status: &Status) -> Value {
    let details: Vec<Value> = status
        .details
        .iter()
        .map(|detail| {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            let readable = POOL
                .as_ref()
                .and_then(|pool| pool.get_message_by_name(name))
                .and_then(|kind| DynamicMessage::decode(kind, detail.value.as_slice()).ok())
                .and_then(|message| serde_json::to_value(&message).ok());
            json!({"type": name, "value": BASE64.encode(&detail.value), "debug": readable})
        })
        .collect();
    json!({"code": code_name(status.code), "message": status.message, "details": details})
}

fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "ok",
        "canceled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.copied().unwrap_or("unknown")
}
