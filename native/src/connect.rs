// SPDX-License-Identifier: Apache-2.0
//! Calls without gRPC: the unary part of the Connect protocol. POST the request to the method's path, as JSON or as
//! protobuf, over HTTP/1.1 or HTTP/2; get the answer, or an error in JSON with an HTTP status.
//!
//! Such a call is let in and carried out as a gRPC call is, and only its shape is changed on both sides.

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};

use crate::connection::Peer;
use crate::error::{Code, Failure, internal, not_served};
use crate::front::{self, Shared};
use crate::gate;
use crate::grpc::{self, AnswerBody, PREFIX_SIZE};
use crate::json;
use crate::proto::google::rpc::Status;
use crate::proto::taximeter::v1::ErrorReason;

/// Answers may be larger than requests: a page of a report is.
const ANSWER_SIZE_MAX: usize = 64 << 20;
const TYPE_JSON: HeaderValue = HeaderValue::from_static("application/json");
const TYPE_PROTO: HeaderValue = HeaderValue::from_static("application/proto");
const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Headers about one hop or one shape of the request, which the gRPC call does not have.
const OF_THE_SHAPE: [&str; 6] = [
    "connection",
    "keep-alive",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "connect-protocol-version",
];

/// Where a payment provider posts its events, and the method that takes them: byte for byte, since they are signed.
const EVENTS_PATH: &str = "/webhooks/payments";
const EVENTS_METHOD: &str = "/taximeter.v1.BillingService/ReceivePaymentEvent";
const EVENT_SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");

/// How messages are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Proto,
}

/// How a request is written, if it is a call of this protocol.
pub(crate) fn codec<B>(request: &Request<B>) -> Option<Codec> {
    let value = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split_once(';').map_or(value, |(kind, _)| kind).trim();
    match (request.method(), kind) {
        (&Method::POST, "application/json") => Some(Codec::Json),
        (&Method::POST, "application/proto") => Some(Codec::Proto),
        _ => None,
    }
}

/// Makes the call.
pub(crate) async fn call(
    shared: &Shared,
    peer: &Peer,
    request: Request<Incoming>,
    codec: Codec,
) -> Result<Response<AnswerBody>, Failure> {
    grpc::check_metadata_size(request.headers())?;
    let mut request = request;
    let signature = event_signature(&request)?;
    if signature.is_some() {
        *request.uri_mut() = Uri::from_static(EVENTS_METHOD);
    }
    let method = json::method(request.uri().path()).ok_or_else(gate::no_such_method)?;
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err(not_served("streams over this protocol"));
    }
    let encoding = request.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(not_served("content-encoding"));
    }
    let admitted = shared.gate.admit(peer, request.uri().path(), request.headers())?;
    let (mut parts, body) = request.into_parts();
    let sent = grpc::read_body(Either::Left(body)).await?;
    let message = match (signature, codec) {
        (Some(signature), _) => signed_event(sent, signature, &method),
        (None, Codec::Json) => json::encode(&sent, method.input())?.into(),
        (None, Codec::Proto) => sent,
    };
    make_grpc(&mut parts.headers);
    let request = Request::from_parts(parts, Either::Right(Full::new(grpc::frame(&message))));
    let response = front::begin(shared, peer, admitted, request)?.finish().await?;
    answer(response, &method, codec).await
}

/// The signature of an event of a payment provider; None for what is none. Fails before the event is read.
fn event_signature<B>(request: &Request<B>) -> Result<Option<String>, Failure> {
    if request.uri().path() != EVENTS_PATH {
        return Ok(None);
    }
    let signature = request.headers().get(EVENT_SIGNATURE);
    let signature = signature.and_then(|value| value.to_str().ok());
    signature.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let message = "no good signature of the payment provider";
        Failure::new(Code::Unauthenticated, ErrorReason::PaymentSignature, message)
    })
}

fn signed_event(payload: Bytes, signature: String, method: &MethodDescriptor) -> Bytes {
    let mut event = DynamicMessage::new(method.input());
    event.set_field_by_name("payload", Value::Bytes(payload));
    event.set_field_by_name("signature", Value::String(signature));
    event.encode_to_vec().into()
}

/// An answer that is an error. Over HTTP/1.1 the connection ends with it: the request may not have been read.
pub(crate) fn failed(failure: &Failure, version: Version) -> Response<AnswerBody> {
    let mut response = error(&failure.to_status());
    if version < Version::HTTP_2 {
        close_behind(&mut response);
    }
    response
}

/// An answer to what is no call, over HTTP/1.1; its connection ends with it.
pub(crate) fn unsupported() -> Response<AnswerBody> {
    let mut response = grpc::unsupported_media_type();
    close_behind(&mut response);
    response
}

fn close_behind(response: &mut Response<AnswerBody>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// Gives the headers of a request the shape of a gRPC call.
fn make_grpc(headers: &mut HeaderMap) {
    for name in OF_THE_SHAPE {
        headers.remove(name);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.remove(GRPC_TIMEOUT);
    let timeout_ms = headers.remove(CONNECT_TIMEOUT);
    let timeout_ms = timeout_ms
        .as_ref()
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(value) = timeout_ms.and_then(|ms| HeaderValue::try_from(format!("{ms}m")).ok()) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// Gives a gRPC answer the shape of this protocol.
async fn answer(
    response: Response<AnswerBody>,
    method: &MethodDescriptor,
    codec: Codec,
) -> Result<Response<AnswerBody>, Failure> {
    let (parts, body) = response.into_parts();
    let collected = Limited::new(body, ANSWER_SIZE_MAX)
        .collect()
        .await
        .map_err(|_| internal("answer"))?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let status = grpc::status(&parts.headers).or_else(|| grpc::status(&trailers));
    let status = status.ok_or_else(|| internal("answer"))?;
    if status.code != 0 {
        return Ok(error(&status));
    }
    let mut message = collected.to_bytes();
    message.advance(PREFIX_SIZE.min(message.len()));
    let (kind, message) = match codec {
        Codec::Json => (TYPE_JSON, json::decode(message, method.output())?.into()),
        Codec::Proto => (TYPE_PROTO, message),
    };
    Ok(respond(StatusCode::OK, kind, message))
}

fn error(status: &Status) -> Response<AnswerBody> {
    let text = json::error(status).to_string();
    respond(http_status(status.code), TYPE_JSON, text.into())
}

fn respond(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<AnswerBody> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(AnswerBody::unary(Some(body), None));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// As the Connect protocol maps gRPC's codes.
fn http_status(code: i32) -> StatusCode {
    match code {
        // The number that proxies use for a client that went away; no name stands for it.
        1 => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
