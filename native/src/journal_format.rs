// SPDX-License-Identifier: Apache-2.0
//! What stands in a journal segment: frames of length, CRC32C and one note.
//!
//! A segment begins with a magic and holds `[length u32][crc32c u32][note]` frames, little-endian. Length 0 or a wrong
//! checksum ends it: a torn tail is cut at the last whole frame.

use bytes::Bytes;

use crate::store_id::StreamId;

pub(crate) const MAGIC: &[u8; 8] = b"TXJRNL01";
const FRAME_HEADER_SIZE: usize = 8;
/// Far above the largest entry; a larger length is damage.
const NOTE_SIZE_MAX: usize = 4 << 20;

const APPLIED: u8 = 1;
const PENDING: u8 = 2;
const REPLAYED: u8 = 3;
const DRAINED: u8 = 4;
const RESTORED: u8 = 5;

/// Something the journal remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// The store had this entry under `id` while it was in `epoch`.
    Applied {
        partition: u16,
        epoch: u64,
        id: StreamId,
        entry: Bytes,
        /// Its mark and counters alone were written again, because the ledger files hold the entry: the last id of the
        /// stream does not tell whether the store still has them.
        is_restored: bool,
    },
    /// Accepted while the store was away.
    Pending { entry: Vec<u8> },
    /// Everything that the store lost before these epochs, (partition, epoch), has been applied again.
    Replayed { epochs: Vec<(u16, u64)> },
    /// Every `Pending` note before this one has been applied or found to conflict.
    Drained,
}

/// Appends the note as one frame.
pub(crate) fn write_frame(buffer: &mut Vec<u8>, note: &Note) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; FRAME_HEADER_SIZE]);
    let body = buffer.len();
    match note {
        Note::Applied {
            partition,
            epoch,
            id,
            entry,
            is_restored,
        } => {
            buffer.push(if *is_restored { RESTORED } else { APPLIED });
            buffer.extend_from_slice(&partition.to_le_bytes());
            buffer.extend_from_slice(&epoch.to_le_bytes());
            buffer.extend_from_slice(&id.ms.to_le_bytes());
            buffer.extend_from_slice(&id.seq.to_le_bytes());
            buffer.extend_from_slice(entry);
        }
        Note::Pending { entry } => {
            buffer.push(PENDING);
            buffer.extend_from_slice(entry);
        }
        Note::Replayed { epochs } => {
            buffer.push(REPLAYED);
            for (partition, epoch) in epochs {
                buffer.extend_from_slice(&partition.to_le_bytes());
                buffer.extend_from_slice(&epoch.to_le_bytes());
            }
        }
        Note::Drained => buffer.push(DRAINED),
    }
    let note_bytes = buffer.get(body..).unwrap_or_default();
    let length = u32::try_from(note_bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = crc32c::crc32c(note_bytes).to_le_bytes();
    if let Some(header) = buffer.get_mut(start..body) {
        let (length_bytes, checksum_bytes) = header.split_at_mut(4);
        length_bytes.copy_from_slice(&length);
        checksum_bytes.copy_from_slice(&checksum);
    }
}

/// Notes of a segment in order, up to the first frame that is not whole.
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Frames of a whole segment file. Empty when it does not begin with the magic.
    pub(crate) fn new(segment: &'a [u8]) -> Self {
        Self {
            rest: segment.strip_prefix(MAGIC.as_slice()).unwrap_or_default(),
        }
    }
}

/// Bytes of a segment up to the end of its last whole frame; 0 when it does not begin with the magic.
pub(crate) fn whole_size(segment: &[u8]) -> usize {
    if !segment.starts_with(MAGIC) {
        return 0;
    }
    let mut frames = Frames::new(segment);
    while frames.next().is_some() {}
    segment.len().saturating_sub(frames.rest.len())
}

impl Iterator for Frames<'_> {
    type Item = Note;

    fn next(&mut self) -> Option<Note> {
        let (length_bytes, rest) = self.rest.split_first_chunk::<4>()?;
        let (checksum_bytes, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length_bytes)).ok()?;
        if length == 0 || length > NOTE_SIZE_MAX {
            return None;
        }
        let (body, rest) = rest.split_at_checked(length)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum_bytes) {
            return None;
        }
        let note = read_note(body)?;
        self.rest = rest;
        Some(note)
    }
}

fn read_note(body: &[u8]) -> Option<Note> {
    let (kind, rest) = body.split_first()?;
    match *kind {
        kind @ (APPLIED | RESTORED) => {
            let (partition, rest) = rest.split_first_chunk::<2>()?;
            let (epoch, rest) = rest.split_first_chunk::<8>()?;
            let (ms, rest) = rest.split_first_chunk::<8>()?;
            let (seq, entry) = rest.split_first_chunk::<8>()?;
            Some(Note::Applied {
                partition: u16::from_le_bytes(*partition),
                epoch: u64::from_le_bytes(*epoch),
                id: StreamId {
                    ms: u64::from_le_bytes(*ms),
                    seq: u64::from_le_bytes(*seq),
                },
                entry: Bytes::copy_from_slice(entry),
                is_restored: kind == RESTORED,
            })
        }
        PENDING => Some(Note::Pending { entry: rest.to_vec() }),
        REPLAYED => {
            let epochs = rest.as_chunks::<10>().0.iter().filter_map(|chunk| {
                let (partition, epoch) = chunk.split_first_chunk::<2>()?;
                Some((
                    u16::from_le_bytes(*partition),
                    u64::from_le_bytes(epoch.try_into().ok()?),
                ))
            });
            Some(Note::Replayed {
                epochs: epochs.collect(),
            })
        }
        DRAINED => Some(Note::Drained),
        _ => None,
    }
}
