// SPDX-License-Identifier: Apache-2.0
//! A set of stream ids that mostly follow on each other.

use std::collections::BTreeMap;

use crate::store_id::StreamId;

/// Records that were applied together have ids of one millisecond with numbers in a row, kept as one.
#[derive(Clone, Default)]
pub(crate) struct StreamRuns {
    /// The number of the last id, by the first.
    runs: BTreeMap<StreamId, u64>,
}

impl StreamRuns {
    /// How many runs there are.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Adds ids, in whatever order they come.
    pub(crate) fn add(&mut self, mut ids: Vec<StreamId>) {
        ids.sort_unstable();
        let follows =
            |one: &StreamId, next: &StreamId| next.ms == one.ms && next.seq.wrapping_sub(one.seq) <= 1;
        for run in ids.chunk_by(follows) {
            if let (Some(first), Some(last)) = (run.first(), run.last())
                && !(self.contains(*first) && self.contains(*last))
            {
                let end = self.runs.entry(*first).or_insert(last.seq);
                *end = last.seq.max(*end);
            }
        }
    }

    /// Whether an id is known to be one of them. Some that are may not be found, where runs overlap.
    pub(crate) fn contains(&self, id: StreamId) -> bool {
        let before = self.runs.range(..=id).next_back();
        before.is_some_and(|(first, last)| first.ms == id.ms && id.seq <= *last)
    }

    /// Forgets ids up to this one.
    pub(crate) fn forget_through(&mut self, id: StreamId) {
        let next = StreamId {
            seq: id.seq.saturating_add(1),
            ..id
        };
        let rest = self.contains(next).then(|| self.runs.range(..=next).next_back());
        let rest = rest.flatten().map(|(_, last)| *last);
        self.runs = self.runs.split_off(&next);
        self.runs.extend(rest.map(|last| (next, last)));
    }
}
