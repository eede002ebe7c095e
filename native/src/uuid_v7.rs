// SPDX-License-Identifier: Apache-2.0
//! Ids that say when they were made.

/// Milliseconds since 1970 in a `UUIDv7` of 36 characters; None for every other id.
pub(crate) fn uuid_v7_ms(record_id: &str) -> Option<i64> {
    let bytes: &[u8; 36] = record_id.as_bytes().try_into().ok()?;
    let has_shape = [bytes[8], bytes[13], bytes[18], bytes[23]] == [b'-'; 4]
        && bytes[14] == b'7'
        && matches!(bytes[19], b'8' | b'9' | b'a' | b'b' | b'A' | b'B');
    // All of them, because to stop at the first wrong one takes longer.
    let (hyphens, others) = bytes.iter().fold((0_u8, true), |(hyphens, others), byte| {
        let is_hyphen = *byte == b'-';
        (
            hyphens.saturating_add(u8::from(is_hyphen)),
            others & (is_hyphen | byte.is_ascii_hexdigit()),
        )
    });
    if !has_shape || hyphens != 4 || !others {
        return None;
    }
    let high = i64::from_str_radix(record_id.get(..8)?, 16).ok()?;
    let low = i64::from_str_radix(record_id.get(9..13)?, 16).ok()?;
    high.checked_shl(16)?.checked_add(low)
}
