// SPDX-License-Identifier: Apache-2.0
//! Reads headers as HPACK packs them (RFC 7541), with the table that the server fills as it goes.

use std::collections::VecDeque;

use super::huffman;
use super::static_table::FIELDS;
use crate::Outcome;

/// What a table may hold before anybody has said otherwise, and we say nothing: as most clients do.
pub(super) const TABLE_SIZE: usize = 4_096;
/// What an entry of a table takes beside its texts.
pub(super) const ENTRY_OVERHEAD: usize = 32;
const INTEGER_BITS_MAX: u32 = 28;

struct Field {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Field {
    fn size(&self) -> usize {
        let texts = self.name.len().saturating_add(self.value.len());
        texts.saturating_add(ENTRY_OVERHEAD)
    }
}

/// Of one connection. An error means that it cannot go on: later headers would be read with a wrong table.
pub(super) struct Decoder {
    /// The last one first.
    table: VecDeque<Field>,
    size: usize,
    size_max: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            size_max: TABLE_SIZE,
        }
    }

    /// Shows each header of a block, name and value.
    pub(super) fn decode(&mut self, mut block: &[u8], mut show: impl FnMut(&[u8], &[u8])) -> Outcome<()> {
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    let (name, value) = self.field(integer(&mut block, 7)?)?;
                    show(name, value);
                }
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    show(&field.name, &field.value);
                    self.insert(field);
                }
                0x20.. => {
                    let size_max = integer(&mut block, 5)?;
                    if size_max > TABLE_SIZE {
                        return Err(format!("a header table of {size_max} bytes, more than allowed").into());
                    }
                    self.size_max = size_max;
                    self.evict();
                }
                // Not to be indexed, now or ever.
                _ => {
                    let field = self.literal(&mut block, 4)?;
                    show(&field.name, &field.value);
                }
            }
        }
        Ok(())
    }

    fn field(&self, index: usize) -> Outcome<(&[u8], &[u8])> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|place| FIELDS.get(place)) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let place = index.checked_sub(FIELDS.len().saturating_add(1));
        let field = place.and_then(|place| self.table.get(place));
        let field = field.ok_or_else(|| format!("header {index} of a table of {}", self.table.len()))?;
        Ok((&field.name, &field.value))
    }

    fn literal(&self, block: &mut &[u8], prefix_bits: u32) -> Outcome<Field> {
        let name = match integer(block, prefix_bits)? {
            0 => text(block)?,
            index => self.field(index)?.0.to_vec(),
        };
        let value = text(block)?;
        Ok(Field { name, value })
    }

    fn insert(&mut self, field: Field) {
        self.size = self.size.saturating_add(field.size());
        self.table.push_front(field);
        // One that is too large for the table empties it, and goes as well.
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.size_max
            && let Some(oldest) = self.table.pop_back()
        {
            self.size = self.size.saturating_sub(oldest.size());
        }
    }
}

/// Takes an integer off the block, whose first bits are in what its first byte has left.
fn integer(block: &mut &[u8], prefix_bits: u32) -> Outcome<usize> {
    let mask = u8::MAX.wrapping_shr(u8::BITS.saturating_sub(prefix_bits));
    let prefix = byte(block)? & mask;
    let mut value = usize::from(prefix);
    if prefix < mask {
        return Ok(value);
    }
    let mut shift = 0_u32;
    loop {
        let next = byte(block)?;
        value = value.saturating_add(usize::from(next & 0x7f).wrapping_shl(shift));
        if next < 0x80 {
            return Ok(value);
        }
        shift = shift.saturating_add(7);
        if shift >= INTEGER_BITS_MAX {
            return Err("an integer without end in a header".into());
        }
    }
}

fn text(block: &mut &[u8]) -> Outcome<Vec<u8>> {
    let is_huffman = block.first().is_some_and(|first| *first >= 0x80);
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or("a header cut off")?;
    *block = rest;
    if is_huffman {
        huffman::decode(bytes)
    } else {
        Ok(bytes.to_vec())
    }
}

fn byte(block: &mut &[u8]) -> Outcome<u8> {
    let (first, rest) = block.split_first().ok_or("a header cut off")?;
    *block = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests;
