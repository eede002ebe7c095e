// SPDX-License-Identifier: Apache-2.0
//! Unary gRPC over HTTP/2, by hand: one frame in, one frame and trailers out.
//!
//! Written here and not taken from a framework because malformed bytes must answer `INVALID_ARGUMENT`, oversized
//! ones `RESOURCE_EXHAUSTED`, and because every allocation on this path is paid on each call.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD as BASE64};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use prost::Message;

use crate::admission::Permit;
use crate::error::{Code, Failure, malformed};
use crate::proto::google::rpc;
use crate::proto::taximeter::v1::ErrorReason;

/// Larger messages are refused, compressed or not.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1 << 20;
/// More metadata is refused; a pair counts as HTTP/2 counts it.
const METADATA_SIZE_MAX: usize = 8 << 10;
const HEADER_OVERHEAD_SIZE: usize = 32;
const MESSAGE_TOO_LARGE: &str = "message larger than 1 MiB";
/// Bytes before each message: compressed or not, and its length.
pub(crate) const PREFIX_SIZE: usize = 5;
/// Room for what most answers take.
const ANSWER_CAPACITY: usize = 512;
const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// Binary metadata comes with padding or without.
const BASE64_ANY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const STATUS_OK: HeaderValue = HeaderValue::from_static("0");

/// Body of a request: what arrives, or what was made of it.
pub(crate) type RequestBody = Either<Incoming, Full<Bytes>>;

/// Body of an answer.
pub(crate) struct AnswerBody {
    content: Content,
    /// A call lasts until its answer has been taken.
    permit: Option<Permit>,
}

/// What was made here, or what the Python server streams.
enum Content {
    Unary {
        message: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
    Forwarded(Incoming),
}

impl AnswerBody {
    /// The body of an answer of the Python server.
    pub(crate) const fn forwarded(body: Incoming) -> Self {
        Self {
            content: Content::Forwarded(body),
            permit: None,
        }
    }

    /// A body that was made here.
    pub(crate) const fn unary(message: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self {
            content: Content::Unary { message, trailers },
            permit: None,
        }
    }

    /// Keeps the permit of the call until the body is gone.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().content {
            Content::Unary { message, trailers } => {
                let frame = message
                    .take()
                    .map(Frame::data)
                    .or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Content::Forwarded(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Unary { message, trailers } => message.is_none() && trailers.is_none(),
            Content::Forwarded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Unary { .. } => SizeHint::default(),
            Content::Forwarded(body) => body.size_hint(),
        }
    }
}

/// An answer with a message and status OK.
pub(crate) fn ok(message: &impl Message) -> Response<AnswerBody> {
    ok_with(ANSWER_CAPACITY, |frame| {
        // A vector, because small pieces cost it least. It grows as needed, so encoding cannot fail.
        let _ = message.encode(frame);
    })
}

/// An answer with status OK and a message that `encode` appends, which takes about so many bytes.
pub(crate) fn ok_with(capacity: usize, encode: impl FnOnce(&mut Vec<u8>)) -> Response<AnswerBody> {
    let mut frame = Vec::with_capacity(capacity.saturating_add(PREFIX_SIZE));
    frame.extend_from_slice(&[0; PREFIX_SIZE]);
    encode(&mut frame);
    // Afterwards, because to know the length of a message costs as much as to encode it.
    let length = u32::try_from(frame.len().saturating_sub(PREFIX_SIZE)).unwrap_or(u32::MAX);
    if let Some(bytes) = frame.get_mut(1..PREFIX_SIZE) {
        bytes.copy_from_slice(&length.to_be_bytes());
    }
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, STATUS_OK);
    respond(AnswerBody::unary(Some(frame.into()), Some(trailers)))
}

/// A message as it goes over the wire, not compressed.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(message.len().saturating_add(PREFIX_SIZE));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.into()
}

/// The status that headers or trailers carry; None when they carry none.
pub(crate) fn status(headers: &HeaderMap) -> Option<rpc::Status> {
    let code: i32 = headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()?;
    let details = headers.get(GRPC_STATUS_DETAILS);
    let details = details.and_then(|value| BASE64_ANY.decode(value).ok());
    let detailed = details.and_then(|bytes| rpc::Status::decode(bytes.as_slice()).ok());
    Some(detailed.unwrap_or_else(|| rpc::Status {
        code,
        message: headers.get(GRPC_MESSAGE).map_or_else(String::new, percent_decode),
        details: Vec::new(),
    }))
}

/// An answer with a status other than OK, in headers alone.
pub(crate) fn failed(failure: &Failure) -> Response<AnswerBody> {
    let mut response = respond(AnswerBody::unary(None, None));
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(failure.code.number()));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(failure.message())) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Ok(details) = HeaderValue::from_str(&BASE64.encode(failure.to_status().encode_to_vec())) {
        headers.insert(GRPC_STATUS_DETAILS, details);
    }
    response
}

/// An answer to something that is not gRPC.
pub(crate) fn unsupported_media_type() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::unary(None, None));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn respond(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

/// As the gRPC specification wants it: printable ASCII without percent, the rest escaped.
fn percent_encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&crate::cost::hex(&[byte]).to_ascii_uppercase());
        }
    }
    encoded
}

fn percent_decode(value: &HeaderValue) -> String {
    let mut bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    while let Some((&first, rest)) = bytes.split_first() {
        let escaped = rest
            .first_chunk::<2>()
            .filter(|_| first == b'%')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(escaped.unwrap_or(first));
        bytes = escaped.and_then(|_| rest.get(2..)).unwrap_or(rest);
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// True for `application/grpc` with any +suffix or ;parameter.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    // Not application/grpc-web, which frames its answers otherwise.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Refuses metadata that gRPC clients and servers commonly refuse.
pub(crate) fn check_metadata_size(headers: &HeaderMap) -> Result<(), Failure> {
    let size = headers.iter().fold(0_usize, |size, (name, value)| {
        let pair = name.as_str().len().saturating_add(value.len());
        size.saturating_add(pair).saturating_add(HEADER_OVERHEAD_SIZE)
    });
    if size <= METADATA_SIZE_MAX {
        return Ok(());
    }
    Err(too_large("metadata larger than 8 KiB"))
}

/// The caller's time budget; None when it set none. A budget that cannot be read counts as none.
pub(crate) fn budget(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(amount.saturating_mul(60))),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// What is left to read of a unary call once its headers have been looked at. They are a quarter of a kilobyte, which
/// each step of a call would keep, and copy.
pub(crate) struct Sent {
    body: RequestBody,
    is_gzip: bool,
}

impl Sent {
    /// Takes it out of a request.
    pub(crate) fn of(request: Request<RequestBody>) -> Self {
        let encoding = request.headers().get("grpc-encoding");
        Self {
            is_gzip: encoding.is_some_and(|encoding| encoding == "gzip"),
            body: request.into_body(),
        }
    }
}

/// Reads the one message of a unary call.
pub(crate) async fn read_message<M: Message + Default>(sent: Sent) -> Result<M, Failure> {
    let message = read_encoded(sent).await?;
    M::decode(message).map_err(|_| malformed())
}

/// Reads the one message of a unary call, and leaves it as it is.
pub(crate) async fn read_encoded(sent: Sent) -> Result<Bytes, Failure> {
    let is_gzip = sent.is_gzip;
    let mut frame = read_body(sent.body).await?;
    if frame.len() < PREFIX_SIZE {
        return Err(malformed());
    }
    let compressed = frame.get_u8();
    let length = usize::try_from(frame.get_u32()).map_err(|_| malformed())?;
    if length != frame.len() {
        return Err(malformed());
    }
    let message = match compressed {
        0 => frame,
        1 if is_gzip => gunzip(&frame)?,
        1 => return Err(not_gzip()),
        _ => return Err(malformed()),
    };
    Ok(message)
}

/// Reads a body whole, up to the largest message.
pub(crate) async fn read_body(mut body: RequestBody) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| malformed())?.into_data() else {
            continue;
        };
        let held = rest.as_ref().map_or(first.len(), BytesMut::len);
        if held.saturating_add(data.len()) > MESSAGE_SIZE_MAX.saturating_add(PREFIX_SIZE) {
            return Err(too_large(MESSAGE_TOO_LARGE));
        }
        if first.is_empty() && rest.is_none() {
            first = data;
        } else {
            rest.get_or_insert_with(|| BytesMut::from(first.as_ref()))
                .extend_from_slice(&data);
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

fn not_gzip() -> Failure {
    let message = "grpc-encoding: only gzip and identity";
    Failure::new(Code::Unimplemented, ErrorReason::NotServed, message)
}

fn gunzip(compressed: &[u8]) -> Result<Bytes, Failure> {
    let limit = u64::try_from(MESSAGE_SIZE_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut message = Vec::new();
    flate2::read::GzDecoder::new(compressed)
        .take(limit)
        .read_to_end(&mut message)
        .map_err(|_| malformed())?;
    if message.len() > MESSAGE_SIZE_MAX {
        return Err(too_large(MESSAGE_TOO_LARGE));
    }
    Ok(message.into())
}

fn too_large(message: &'static str) -> Failure {
    Failure::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)
}
