// SPDX-License-Identifier: Apache-2.0
//! JSON as a tree that borrows from its text. Numbers keep the digits they were written with, because no float may come
//! near a quantity; a key that stands twice is an error, because nobody can say which of its values was meant.

use std::borrow::Cow;

/// Objects and lists within each other.
const DEPTH_MAX: usize = 16;
/// Members of one object. Each is compared with those before it, so that this bounds the work.
const MEMBER_COUNT_MAX: usize = 256;

/// A value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool,
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Vec<Member<'a>>),
}

/// A key with its value.
pub(super) type Member<'a> = (Cow<'a, str>, Value<'a>);

/// Why a text was not read. `place` is the path within it, from the outside in.
#[derive(Debug)]
pub(super) struct JsonError {
    pub(super) place: Vec<String>,
    pub(super) description: &'static str,
}

impl JsonError {
    const fn new(description: &'static str) -> Self {
        Self {
            place: Vec::new(),
            description,
        }
    }

    fn within(mut self, step: impl Into<String>) -> Self {
        self.place.insert(0, step.into());
        self
    }
}

const MALFORMED: JsonError = JsonError::new("not valid JSON");

/// Reads one value and nothing after it.
pub(super) fn parse(text: &str) -> Result<Value<'_>, JsonError> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(MALFORMED);
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip_while(&mut self, accepts: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&accepts) {
            self.advance();
        }
    }

    fn skip_space(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// True when the next byte that is not space was this one; it is consumed then.
    fn took(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.advance();
        }
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        if depth >= DEPTH_MAX {
            return Err(JsonError::new("nested too deeply"));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth.saturating_add(1)),
            Some(b'[') => self.list(depth.saturating_add(1)),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool),
            Some(b'f') => self.word("false", Value::Bool),
            _ => Err(MALFORMED),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(MALFORMED);
        }
        self.at = self.at.saturating_add(word.len());
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.advance();
        let mut members: Vec<Member<'a>> = Vec::with_capacity(8);
        if self.took(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            if !self.took(b':') {
                return Err(MALFORMED);
            }
            if members.iter().any(|(other, _)| *other == key) {
                return Err(JsonError::new("stands twice").within(key));
            }
            let value = match self.value(depth) {
                Ok(value) => value,
                Err(error) => return Err(error.within(key)),
            };
            members.push((key, value));
            if self.took(b'}') {
                return Ok(Value::Object(members));
            }
            if members.len() >= MEMBER_COUNT_MAX {
                return Err(JsonError::new("more than 256 members"));
            }
            if !self.took(b',') {
                return Err(MALFORMED);
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.advance();
        let mut items = Vec::new();
        if self.took(b']') {
            return Ok(Value::List(items));
        }
        loop {
            let item = self.value(depth);
            items.push(item.map_err(|error| error.within(format!("[{}]", items.len())))?);
            if self.took(b']') {
                return Ok(Value::List(items));
            }
            if !self.took(b',') {
                return Err(MALFORMED);
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(MALFORMED);
        }
        self.advance();
        let mut is_plain = true;
        loop {
            self.skip_while(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_plain = false;
                    self.advance();
                    self.advance();
                }
                _ => return Err(MALFORMED),
            }
        }
        self.advance();
        let quoted = self.text.get(start..self.at).ok_or(MALFORMED)?;
        if is_plain {
            let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            return inside.map(Cow::Borrowed).ok_or(MALFORMED);
        }
        // Rare enough to leave the escapes to somebody else.
        serde_json::from_str::<String>(quoted)
            .map(Cow::Owned)
            .map_err(|_| MALFORMED)
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.advance();
        }
        if self.peek() == Some(b'0') {
            self.advance();
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.advance();
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.advance();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.advance();
            }
            self.digits()?;
        }
        let digits = self.text.get(start..self.at).ok_or(MALFORMED)?;
        Ok(Value::Number(digits))
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        if self.at == start {
            return Err(MALFORMED);
        }
        Ok(())
    }
}
