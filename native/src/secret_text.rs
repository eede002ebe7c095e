// SPDX-License-Identifier: Apache-2.0
//! Whether a text holds what looks like a credential. What is recorded is kept for years and shown in reports.
//!
//! Every attribute of every record is looked at, so most bytes cost one comparison.

/// Characters of the parts of our own keys after "tx_": id, secret, checksum.
const API_KEY_PARTS: [usize; 3] = [12, 43, 6];
/// The shortest credential that is known here, an AWS access key id.
const SIZE_MIN: usize = 20;
const AWS_ID_SIZE: usize = 16;
/// Random characters that make a prefix more than a word.
const TOKEN_SIZE_MIN: usize = 20;
const JWT_SEGMENT_SIZE_MIN: usize = 8;

/// True when one of these stands anywhere in the text: a key of ours, a provider's key `sk-...`, an AWS access key id,
/// `Bearer ` and a token, a JWT, or a webhook secret `whsec_...`.
pub(crate) fn holds_secret(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < SIZE_MIN {
        return false;
    }
    let mut begins_word = true;
    bytes.iter().enumerate().any(|(at, byte)| {
        let begins = begins_word;
        begins_word = !byte.is_ascii_alphanumeric();
        match byte {
            // Ours is found behind anything: its shape is too long to be an accident.
            b't' => bytes.get(at..).is_some_and(is_api_key),
            b's' | b'A' | b'B' | b'b' | b'e' | b'w' if begins => bytes.get(at..).is_some_and(is_foreign_key),
            _ => false,
        }
    })
}

fn is_api_key(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"tx_") else {
        return false;
    };
    let mut parts = rest.splitn(API_KEY_PARTS.len(), |byte| *byte == b'_');
    API_KEY_PARTS.iter().all(|size| {
        parts
            .next()
            .and_then(|part| part.get(..*size))
            .is_some_and(|part| part.iter().all(u8::is_ascii_alphanumeric))
    })
}

fn is_foreign_key(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"sk-") {
        let token = leading(rest, |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        // Words with hyphens are no keys.
        return token.len() >= TOKEN_SIZE_MIN
            && token.iter().any(u8::is_ascii_digit)
            && token.iter().any(u8::is_ascii_uppercase);
    }
    if let Some(rest) = text.strip_prefix(b"AKIA").or_else(|| text.strip_prefix(b"ASIA")) {
        return leading(rest, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()).len() == AWS_ID_SIZE;
    }
    if let Some(rest) = text
        .strip_prefix(b"Bearer ")
        .or_else(|| text.strip_prefix(b"bearer "))
    {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        return leading(rest, is_token).len() >= TOKEN_SIZE_MIN;
    }
    if let Some(rest) = text.strip_prefix(b"whsec_") {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte);
        return leading(rest, is_token).len() >= TOKEN_SIZE_MIN;
    }
    is_jwt(text)
}

/// A header and a payload, both JSON objects in base 64, and the dot before the signature.
fn is_jwt(text: &[u8]) -> bool {
    let mut segments = text.splitn(3, |byte| *byte == b'.');
    let is_object = |segment: &[u8]| {
        segment.len() >= JWT_SEGMENT_SIZE_MIN
            && segment.starts_with(b"eyJ")
            && segment
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte))
    };
    segments.next().is_some_and(is_object)
        && segments.next().is_some_and(is_object)
        && segments.next().is_some()
}

fn leading(text: &[u8], is_part: impl Fn(u8) -> bool) -> &[u8] {
    let size = text.iter().position(|byte| !is_part(*byte)).unwrap_or(text.len());
    text.get(..size).unwrap_or_default()
}
