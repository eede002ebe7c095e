// SPDX-License-Identifier: Apache-2.0
//! The headers of gRPC requests, as clients send them: in full on a connection's first call of a method, and from then
//! on as a byte each, which names the place in the server's table.

use super::hpack::{ENTRY_OVERHEAD, TABLE_SIZE};
use super::static_table::FIELDS;

const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const TABLE_OF_NOTHING: u8 = 0x20;
const INDEXED: u8 = 0x80;
const TO_INDEX: u8 = 0x40;

#[derive(Clone)]
struct Field {
    name: &'static str,
    value: String,
    /// How many fields came into the table before it.
    number: Option<usize>,
}

impl Field {
    fn new(name: &'static str, value: String) -> Self {
        Self {
            name,
            value,
            number: None,
        }
    }

    fn size(&self) -> usize {
        let texts = self.name.len().saturating_add(self.value.len());
        texts.saturating_add(ENTRY_OVERHEAD)
    }

    fn write(&self, output: &mut Vec<u8>, flags: u8, prefix_bits: u32) {
        let known = FIELDS.iter().position(|(name, _)| *name == self.name);
        let index = known.map_or(0, |place| place.saturating_add(1));
        write_integer(output, flags, prefix_bits, index);
        if known.is_none() {
            write_text(output, self.name);
        }
        write_text(output, &self.value);
    }
}

/// What the server's table holds of us, on one connection.
#[derive(Clone)]
struct Table {
    fields: usize,
    size: usize,
    /// The server wants a table of its own size, which is told with the next headers; we go without one then.
    is_refused: bool,
    must_be_emptied: bool,
}

/// Headers of the calls of one connection.
#[derive(Clone)]
pub(crate) struct RequestHeaders {
    paths: Vec<Field>,
    others: Vec<Field>,
    table: Table,
}

impl RequestHeaders {
    /// `paths`: of the methods, which are told by their place here; `key`: empty for calls without one.
    pub(crate) fn new(paths: &[&str], key: &str) -> Self {
        let path = |path: &&str| Field::new(":path", (*path).to_owned());
        let mut others = vec![
            Field::new(":authority", "localhost".to_owned()),
            Field::new("content-type", "application/grpc".to_owned()),
            Field::new("te", "trailers".to_owned()),
        ];
        if !key.is_empty() {
            others.push(Field::new("authorization", format!("Bearer {key}")));
        }
        Self {
            paths: paths.iter().map(path).collect(),
            others,
            table: Table {
                fields: 0,
                size: 0,
                is_refused: false,
                must_be_emptied: false,
            },
        }
    }

    /// The server allows a table of so many bytes.
    pub(super) fn allow_table(&mut self, size: usize) {
        if size < TABLE_SIZE && !self.table.is_refused {
            self.table.is_refused = true;
            self.table.must_be_emptied = true;
        }
    }

    /// Writes the headers of a call.
    pub(super) fn write(&mut self, output: &mut Vec<u8>, method: usize) {
        if self.table.must_be_emptied {
            self.table.must_be_emptied = false;
            output.push(TABLE_OF_NOTHING);
        }
        output.extend_from_slice(&[METHOD_POST, SCHEME_HTTP]);
        let path = self.paths.iter_mut().skip(method).take(1);
        for field in path.chain(&mut self.others) {
            self.table.write(output, field);
        }
    }
}

impl Table {
    fn write(&mut self, output: &mut Vec<u8>, field: &mut Field) {
        let size = self.size.saturating_add(field.size());
        match field.number {
            _ if self.is_refused => field.write(output, 0, 4),
            Some(number) => {
                // The last one in has the first place after those that every connection knows.
                let place = self.fields.saturating_sub(number);
                write_integer(output, INDEXED, 7, place.saturating_add(FIELDS.len()));
            }
            // One that would push others out goes without.
            None if size > TABLE_SIZE => field.write(output, 0, 4),
            None => {
                field.write(output, TO_INDEX, 6);
                field.number = Some(self.fields);
                self.fields = self.fields.saturating_add(1);
                self.size = size;
            }
        }
    }
}

fn write_text(output: &mut Vec<u8>, text: &str) {
    write_integer(output, 0, 7, text.len());
    output.extend_from_slice(text.as_bytes());
}

/// Writes an integer whose first bits go beside the flags.
fn write_integer(output: &mut Vec<u8>, flags: u8, prefix_bits: u32, value: usize) {
    let mask = u8::MAX.wrapping_shr(u8::BITS.saturating_sub(prefix_bits));
    if let Ok(small) = u8::try_from(value)
        && small < mask
    {
        output.push(flags | small);
        return;
    }
    output.push(flags | mask);
    let mut rest = value.saturating_sub(usize::from(mask));
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest = rest.wrapping_shr(7);
        if rest == 0 {
            output.push(low);
            return;
        }
        output.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpack::Decoder;
    use super::*;
    use crate::Outcome;

    /// What a server that has read the headers before reads now, and in how many bytes.
    fn read(
        headers: &mut RequestHeaders,
        decoder: &mut Decoder,
        method: usize,
    ) -> Outcome<(Vec<String>, usize)> {
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        headers.write(&mut block, method);
        decoder.decode(&block, |name, value| {
            let [name, value] = [name, value].map(String::from_utf8_lossy);
            fields.push(format!("{name}: {value}"));
        })?;
        Ok((fields, block.len()))
    }

    fn expected(path: &str, key: &str) -> Vec<String> {
        vec![
            ":method: POST".to_owned(),
            ":scheme: http".to_owned(),
            format!(":path: {path}"),
            ":authority: localhost".to_owned(),
            "content-type: application/grpc".to_owned(),
            "te: trailers".to_owned(),
            format!("authorization: Bearer {key}"),
        ]
    }

    #[test]
    fn later_calls_take_a_byte_for_each_header_whatever_came_between() -> Outcome<()> {
        let key = "k".repeat(200);
        let mut headers = RequestHeaders::new(&["/a.B/C", "/a.B/D"], &key);
        let mut decoder = Decoder::new();
        let first = read(&mut headers, &mut decoder, 0)?;
        assert_eq!(first.0, expected("/a.B/C", &key));
        assert!(first.1 > 250, "in full");
        for (method, path, size) in [(1, "/a.B/D", 15), (0, "/a.B/C", 7), (1, "/a.B/D", 7)] {
            let (fields, length) = read(&mut headers, &mut decoder, method)?;
            assert_eq!(fields, expected(path, &key));
            assert!(length <= size, "{path}: {length} bytes");
        }
        Ok(())
    }

    #[test]
    fn a_server_that_wants_a_smaller_table_gets_none() -> Outcome<()> {
        let mut headers = RequestHeaders::new(&["/a.B/C"], "key");
        let mut decoder = Decoder::new();
        read(&mut headers, &mut decoder, 0)?;
        headers.allow_table(TABLE_SIZE);
        assert_eq!(read(&mut headers, &mut decoder, 0)?.1, 7, "nothing has changed");
        headers.allow_table(100);
        for _ in 0..2 {
            let (fields, length) = read(&mut headers, &mut decoder, 0)?;
            assert_eq!(fields, expected("/a.B/C", "key"));
            assert!(length > 40, "in full");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_into_the_table_is_sent_in_full() -> Outcome<()> {
        let key = "k".repeat(5_000);
        let mut headers = RequestHeaders::new(&["/a.B/C"], &key);
        let mut decoder = Decoder::new();
        for _ in 0..2 {
            assert_eq!(read(&mut headers, &mut decoder, 0)?.0, expected("/a.B/C", &key));
        }
        Ok(())
    }
}
