// SPDX-License-Identifier: Apache-2.0
//! Script calls that go together.
//!
//! The fixed costs of a script call, and of loading and saving the levels of a tenant, are larger than those of one
//! more check or record. So what calls have for one function when the connection is about to write becomes one script
//! call, whatever their partitions. Nothing waits for company: a call that is alone is sent alone, as soon.

use std::sync::Arc;

use redis::Value;
use tokio::sync::oneshot;

use crate::keys;
use crate::resp::Reply;
use crate::store::{StoreError, bytes};

/// Records or checks of one script call, unless one part alone has more: others wait while a script runs.
const WEIGHT_MAX: usize = 64;

/// What one caller has for a script function. KEYS and ARGV of a call are those of each part. The reply is an array: a
/// head for all parts, then as many answers as each part asks for.
pub(crate) struct Part {
    function: Arc<str>,
    keys: Words,
    arguments: Words,
    answer_count: usize,
    /// What it costs the store, in records or checks.
    weight: usize,
    /// Goes with no other.
    is_alone: bool,
}

/// Bulk strings as the store reads them.
#[derive(Clone, Default)]
struct Words {
    packed: Vec<u8>,
    count: usize,
}

impl Words {
    fn push(&mut self, word: &[u8]) {
        write_size(&mut self.packed, b'$', word.len());
        self.packed.extend_from_slice(word);
        self.packed.extend_from_slice(b"\r\n");
        self.count = self.count.saturating_add(1);
    }

    fn append(&mut self, words: &Self) {
        self.packed.extend_from_slice(&words.packed);
        self.count = self.count.saturating_add(words.count);
    }
}

/// By hand: there are several of them to each record, and formatting costs more than the rest of a word.
fn write_size(buffer: &mut Vec<u8>, kind: u8, size: usize) {
    buffer.push(kind);
    let start = buffer.len();
    let mut rest = size;
    loop {
        let digit = u8::try_from(rest.checked_rem(10).unwrap_or_default()).unwrap_or_default();
        buffer.push(b'0'.saturating_add(digit));
        rest = rest.checked_div(10).unwrap_or_default();
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = buffer.get_mut(start..) {
        digits.reverse();
    }
    buffer.extend_from_slice(b"\r\n");
}

impl Part {
    /// Nothing yet, which gets so many answers.
    pub(crate) fn new(function: &Arc<str>, answer_count: usize) -> Self {
        Self {
            function: Arc::clone(function),
            keys: Words::default(),
            arguments: Words::default(),
            answer_count,
            weight: answer_count,
            is_alone: false,
        }
    }

    /// How many records or checks it is, where each answer is for several.
    pub(crate) const fn set_weight(&mut self, weight: usize) {
        self.weight = weight;
    }

    /// One more key.
    pub(crate) fn key(&mut self, key: &str) {
        self.keys.push(key.as_bytes());
    }

    /// The keys of a tenant's levels, root first. Returns how many they are.
    pub(crate) fn level_keys(&mut self, partition: u16, tenant: &str) -> u8 {
        let mut count = 0_u8;
        for key in keys::levels(partition, tenant) {
            self.key(&key);
            count = count.saturating_add(1);
        }
        count
    }

    /// One more argument.
    pub(crate) fn argument(&mut self, argument: &[u8]) {
        self.arguments.push(argument);
    }

    /// From now on it goes with no other.
    pub(crate) const fn separate(&mut self) {
        self.is_alone = true;
    }
}

/// What a part is answered.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The same for all parts of a call.
    pub(crate) head: Vec<u8>,
    pub(crate) answers: Vec<Vec<u8>>,
}

/// What became of a part. An error of a call that other parts shared need not be this one's.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answers: Result<Answers, StoreError>,
    pub(crate) was_shared: bool,
}

/// Parts that go together, and who waits for their answers.
pub(crate) struct Gathered {
    function: Arc<str>,
    keys: Words,
    arguments: Words,
    answer_count: usize,
    weight: usize,
    is_alone: bool,
    waiting: Vec<(usize, oneshot::Sender<Answered>)>,
}

impl Gathered {
    /// Adds a part to those it can go with.
    pub(crate) fn take_in(gathered: &mut Vec<Self>, part: &Part, sender: oneshot::Sender<Answered>) {
        let found = gathered.iter_mut().rev().find(|calls| calls.can_take(part));
        if let Some(calls) = found {
            calls.add(part, sender);
        } else {
            let mut calls = Self::begin(part);
            calls.add(part, sender);
            gathered.push(calls);
        }
    }

    fn begin(part: &Part) -> Self {
        Self {
            function: Arc::clone(&part.function),
            keys: Words::default(),
            arguments: Words::default(),
            answer_count: 0,
            weight: 0,
            is_alone: part.is_alone,
            waiting: Vec::new(),
        }
    }

    fn can_take(&self, part: &Part) -> bool {
        self.function == part.function
            && !self.is_alone
            && !part.is_alone
            && self.weight.saturating_add(part.weight) <= WEIGHT_MAX
    }

    fn add(&mut self, part: &Part, sender: oneshot::Sender<Answered>) {
        self.keys.append(&part.keys);
        self.arguments.append(&part.arguments);
        self.answer_count = self.answer_count.saturating_add(part.answer_count);
        self.weight = self.weight.saturating_add(part.weight);
        self.waiting.push((part.answer_count, sender));
    }

    /// Appends the call to a buffer.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let mut head = Words::default();
        head.push(b"FCALL");
        head.push(self.function.as_bytes());
        head.push(self.keys.count.to_string().as_bytes());
        let count = [&head, &self.keys, &self.arguments].map(|words| words.count);
        write_size(buffer, b'*', count.iter().sum());
        for words in [&head, &self.keys, &self.arguments] {
            buffer.extend_from_slice(&words.packed);
        }
    }

    /// Gives each part what is its own of the reply. Whoever gave up waiting does not want it.
    pub(crate) fn hand_out(self, reply: Reply) {
        let was_shared = self.waiting.len() > 1;
        let (head, mut answers) = match self.read(reply) {
            Ok(read) => read,
            Err(error) => {
                for (_, sender) in self.waiting {
                    let answers = Err(error);
                    let _ = sender.send(Answered { answers, was_shared });
                }
                return;
            }
        };
        for (count, sender) in self.waiting {
            let answers = Ok(Answers {
                head: head.clone(),
                answers: answers.by_ref().take(count).collect(),
            });
            let _ = sender.send(Answered { answers, was_shared });
        }
    }

    fn read(&self, reply: Reply) -> Result<(Vec<u8>, std::vec::IntoIter<Vec<u8>>), StoreError> {
        let values = match reply {
            Reply::Value(Value::Array(values)) => values,
            Reply::Value(_) => return Err(StoreError::Corrupt),
            Reply::Error(text) => return Err(StoreError::of_reply(&text)),
        };
        let mut answers = values
            .into_iter()
            .map(bytes)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let head = answers.next().ok_or(StoreError::Corrupt)?;
        if answers.len() == self.answer_count {
            Ok((head, answers))
        } else {
            Err(StoreError::Corrupt)
        }
    }
}
