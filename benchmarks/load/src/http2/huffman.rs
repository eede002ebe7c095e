// SPDX-License-Identifier: Apache-2.0
//! Texts of headers by the Huffman code of RFC 7541, appendix B.

use crate::Outcome;

/// How many codes have so many bits.
const COUNTS: [u16; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
];
/// The bytes in the order of their codes, which follow one another within a length. The code after the last one, of
/// thirty ones, stands for the end and is not used.
const BYTES: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95,
    98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77,
    78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88,
    90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158,
    165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206,
    215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
    220, 249, 10, 13, 22,
];
/// A text ends within a byte, whose rest is ones.
const PADDING_BITS_MAX: usize = 7;

/// A code that has been read in part: where its length's codes begin, as a code and as an index of `BYTES`.
#[derive(Default)]
struct Partial {
    code: u32,
    length: usize,
    first: u32,
    index: u32,
}

impl Partial {
    /// Adds a bit; gives the index of a byte when that ends a code.
    fn add(&mut self, bit: u32) -> Outcome<Option<u32>> {
        self.code = self.code.wrapping_shl(1) | bit;
        self.first = self.first.wrapping_shl(1);
        self.length = self.length.wrapping_add(1);
        let count = u32::from(
            *COUNTS
                .get(self.length)
                .ok_or("a Huffman code without a meaning")?,
        );
        let place = self.code.wrapping_sub(self.first);
        if place < count {
            return Ok(Some(self.index.wrapping_add(place)));
        }
        self.index = self.index.wrapping_add(count);
        self.first = self.first.wrapping_add(count);
        Ok(None)
    }

    fn is_padding(&self) -> bool {
        self.length <= PADDING_BITS_MAX && usize::try_from(self.code.trailing_ones()) == Ok(self.length)
    }
}

/// Reads a text.
pub(super) fn decode(encoded: &[u8]) -> Outcome<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len().saturating_mul(2));
    let mut partial = Partial::default();
    for byte in encoded {
        for shift in (0..u8::BITS).rev() {
            let bit = u32::from(byte.wrapping_shr(shift) & 1);
            if let Some(index) = partial.add(bit)? {
                let byte = BYTES.get(usize::try_from(index)?);
                decoded.push(*byte.ok_or("a Huffman code for the end of a text")?);
                partial = Partial::default();
            }
        }
    }
    if partial.is_padding() {
        Ok(decoded)
    } else {
        Err("a Huffman code without its end".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_standard() {
        let texts: [(&[u8], &str); 3] = [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
                "www.example.com",
            ),
            (
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81,
                    0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
                ],
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                &[
                    0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae,
                    0x43, 0xd3,
                ],
                "https://www.example.com",
            ),
        ];
        for (encoded, text) in texts {
            assert_eq!(decode(encoded).ok().as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_no_text() {
        for (encoded, why) in [
            (&[0xff_u8, 0xff][..], "more padding than a byte"),
            (&[0x00, 0x00][..], "zeroes in the padding"),
            (&[0xff, 0xff, 0xff, 0xff][..], "the code for the end"),
        ] {
            assert!(decode(encoded).is_err(), "{why}");
        }
    }
}
