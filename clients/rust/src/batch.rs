// SPDX-License-Identifier: Apache-2.0
//! A batch on its way: which of its records have an outcome, and which are to be sent again.

use tonic::Status;

use crate::client::Recorded;
use crate::error::Error;
use crate::retry::is_unknown;
use crate::v1::{RecordBatchRequest, RecordBatchResponse, UsageRecord, record_result};

/// Records and what has become of them so far.
pub(crate) struct Batch {
    records: Vec<UsageRecord>,
    outcomes: Vec<Option<Result<Recorded, Error>>>,
    unknown: Vec<usize>,
    is_answered: bool,
}

impl Batch {
    pub(crate) fn new(records: Vec<UsageRecord>) -> Self {
        Self {
            outcomes: records.iter().map(|_| None).collect(),
            unknown: (0..records.len()).collect(),
            records,
            is_answered: false,
        }
    }

    /// What is to be sent.
    pub(crate) fn request(&self) -> RecordBatchRequest {
        let records = self.unknown.iter().filter_map(|place| self.records.get(*place));
        RecordBatchRequest {
            records: records.cloned().collect(),
        }
    }

    /// Reads an answer; a status that leaves the outcome open where some records still have none.
    pub(crate) fn take(&mut self, answer: RecordBatchResponse) -> Result<(), Status> {
        let sent = std::mem::take(&mut self.unknown);
        if answer.results.len() != sent.len() {
            let message = format!(
                "{} records were answered with {} results",
                sent.len(),
                answer.results.len()
            );
            self.unknown = sent;
            return Err(Status::internal(message));
        }
        self.is_answered = true;
        for (place, result) in sent.into_iter().zip(answer.results) {
            let record_id = || self.records.get(place).map(|record| record.record_id.clone());
            let outcome = match result.outcome {
                Some(record_result::Outcome::Response(response)) => Ok(Recorded {
                    record_id: record_id().unwrap_or_default(),
                    response,
                }),
                Some(record_result::Outcome::Error(status)) => Err(Error::of_status(status)),
                None => Err(Status::unknown("the server answered a record with nothing").into()),
            };
            if matches!(&outcome, Err(error) if is_unknown(error.code)) {
                self.unknown.push(place);
            }
            if let Some(kept) = self.outcomes.get_mut(place) {
                *kept = Some(outcome);
            }
        }
        if self.unknown.is_empty() {
            Ok(())
        } else {
            Err(Status::unknown("some records have no outcome"))
        }
    }

    /// The outcome of each record, in their order. None before the first answer, also where there are no records.
    pub(crate) fn outcomes(&mut self) -> Option<Vec<Result<Recorded, Error>>> {
        let outcomes = std::mem::take(&mut self.outcomes);
        self.is_answered.then(|| outcomes.into_iter().flatten().collect())
    }
}
