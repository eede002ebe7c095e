// SPDX-License-Identifier: Apache-2.0
//! Where a record stands in its request.

use std::fmt;

/// Put together only where something is wrong with the record.
#[derive(Clone, Copy)]
pub(crate) enum RecordPath {
    /// That of Record.
    Alone,
    /// One of `RecordBatch`, counted from 0.
    InBatch(usize),
}

impl fmt::Display for RecordPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => formatter.write_str("record"),
            Self::InBatch(at) => write!(formatter, "records[{at}]"),
        }
    }
}
