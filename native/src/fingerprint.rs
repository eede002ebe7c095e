// SPDX-License-Identifier: Apache-2.0
//! What tells a record's payload from another one: whether two are the same, and if not, in which parts they differ.

use std::fmt::Write;

use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::record::HASH_SIZE;

const WHOLE_SIZE: usize = 8;
const PARTS: [&str; HASH_SIZE - WHOLE_SIZE] = [
    "model",
    "provider",
    "tier_region_speed",
    "attributes",
    "usage",
    "quality",
    "occur_time",
    "hold_id",
];

/// Everything the caller said: 8 bytes of a BLAKE3 hash of all of it, then one byte of checksum for each part, so that
/// a conflict can name what differs without keeping a payload. `occur_time_nanos` is None when it was left out.
pub(crate) fn fingerprint(
    entry: &LedgerEntry,
    classes: &[(&str, i64)],
    occur_time_nanos: Option<i64>,
) -> [u8; HASH_SIZE] {
    let mut said = Said {
        whole: Vec::with_capacity(SAID_CAPACITY),
        checksums: Vec::with_capacity(PARTS.len()),
    };
    said.part([entry.model.as_str()]);
    said.part([entry.provider.as_str()]);
    said.part([&entry.tier, &entry.region, &entry.speed].map(String::as_str));
    said.part(
        entry
            .attributes
            .iter()
            .flat_map(|attribute| [attribute.key.as_str(), attribute.value.as_str()]),
    );
    if entry.usage_json.is_empty() {
        said.part([usage_text(entry.calls, classes).as_str()]);
    } else {
        // As it was sent: how it is read may improve between two attempts.
        said.part([&entry.usage_provider, &entry.usage_api, &entry.usage_json].map(String::as_str));
    }
    said.part([entry.quality.to_string().as_str()]);
    said.part([occur_time_nanos
        .map_or_else(String::new, |nanos| nanos.to_string())
        .as_str()]);
    said.part([entry.hold_id.as_str()]);
    said.finish()
}

fn usage_text(calls: i64, classes: &[(&str, i64)]) -> String {
    let mut sorted = classes.to_vec();
    sorted.sort_unstable();
    let mut usage = calls.to_string();
    for (class, count) in sorted {
        // Names of classes hold no spaces.
        let _infallible = write!(usage, " {class} {count}");
    }
    usage
}

/// Names of the parts in which two fingerprints differ, with commas. One difference in 256 goes unnamed.
pub(crate) fn differing_parts(a: &[u8], b: &[u8]) -> String {
    let parts = |fingerprint: &[u8]| fingerprint.get(WHOLE_SIZE..HASH_SIZE).map(<[u8]>::to_vec);
    let (Some(a), Some(b)) = (parts(a), parts(b)) else {
        return String::new();
    };
    let differing: Vec<&str> = PARTS
        .iter()
        .zip(a.iter().zip(&b))
        .filter(|(_, (a, b))| a != b)
        .map(|(name, _)| *name)
        .collect();
    differing.join(",")
}

/// Room for a record with a few attributes.
const SAID_CAPACITY: usize = 512;

struct Said {
    /// What is hashed, at once: most of it are small pieces.
    whole: Vec<u8>,
    checksums: Vec<u8>,
}

impl Said {
    /// The next part, of so many texts. Each carries its length, so that no two payloads look alike.
    fn part<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let start = self.whole.len();
        for text in texts {
            let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
            self.whole.extend_from_slice(&size.to_le_bytes());
            self.whole.extend_from_slice(text.as_bytes());
        }
        let checksum = crc32c::crc32c(self.whole.get(start..).unwrap_or_default());
        // A part has an end, as its texts have: a number of texts that varies cannot run into the next part.
        self.whole.extend_from_slice(&u64::MAX.to_le_bytes());
        let [byte, ..] = checksum.to_le_bytes();
        self.checksums.push(byte);
    }

    fn finish(self) -> [u8; HASH_SIZE] {
        let mut fingerprint = [0; HASH_SIZE];
        let whole = blake3::hash(&self.whole);
        let bytes = whole.as_bytes().iter().take(WHOLE_SIZE).chain(&self.checksums);
        fingerprint
            .iter_mut()
            .zip(bytes)
            .for_each(|(byte, said)| *byte = *said);
        fingerprint
    }
}
