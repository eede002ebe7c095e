// SPDX-License-Identifier: Apache-2.0
//! What the product is told.

use std::time::Instant;

use prost::Message;
use prost_types::Duration;

use crate::options::Options;
use crate::proto::taximeter::v1::usage_record::Payload;
use crate::proto::taximeter::v1::{CheckQuotaRequest, RecordBatchRequest, RecordRequest, Usage, UsageRecord};
use crate::workload::{Tokens, Workload};

const MODEL: &str = "claude-sonnet-4-6";
const HOLD_TTL_S: i64 = 60;
const HEX: &[u8] = b"0123456789abcdef";
/// Where a record's id has the three digits that tell the items of a batch apart.
const ITEM_AT: usize = 15;

/// Makes the messages of one run, whose record ids no other run has.
pub(crate) struct Messages {
    run: u64,
    started_ms: u64,
    started: Instant,
    tenant_prefix: String,
    batch: u64,
    workload: Workload,
}

impl Messages {
    pub(crate) fn new(options: &Options, workload: Workload, started_ms: u64) -> Self {
        Self {
            run: u64::from(std::process::id()),
            started_ms,
            started: Instant::now(),
            tenant_prefix: options.tenant_prefix.clone(),
            batch: options.batch,
            workload,
        }
    }

    /// Who makes the call.
    pub(crate) fn tenant(&self, number: u64) -> String {
        format!("{}-{}", self.tenant_prefix, self.workload.tenant(number))
    }

    /// A check that holds what the call is going to take.
    pub(crate) fn check_with_hold(&self, number: u64) -> Vec<u8> {
        CheckQuotaRequest {
            tenant: self.tenant(number),
            model: MODEL.to_owned(),
            estimate: Some(usage(self.workload.tokens(number))),
            hold_ttl: Some(Duration {
                seconds: HOLD_TTL_S,
                nanos: 0,
            }),
            ..Default::default()
        }
        .encode_to_vec()
    }

    /// The record of a call, which settles its hold where it has one.
    pub(crate) fn record(&self, number: u64, hold_id: String) -> Vec<u8> {
        let record = Some(UsageRecord {
            hold_id,
            ..self.usage_record(number)
        });
        RecordRequest { record }.encode_to_vec()
    }

    /// The records of a batch, which differ by their ids. Encoded once and copied: what is measured has the same cores.
    pub(crate) fn record_batch(&self, number: u64) -> Vec<u8> {
        let first = self.usage_record(number);
        let id = first.record_id.clone().into_bytes();
        let one = RecordBatchRequest { records: vec![first] }.encode_to_vec();
        let id_at = one
            .windows(id.len())
            .position(|bytes| bytes == id)
            .unwrap_or_default();
        let item_at = id_at.saturating_add(ITEM_AT);
        let mut message = one.repeat(usize::try_from(self.batch).unwrap_or(1));
        for (item, record) in (0_u16..).zip(message.chunks_exact_mut(one.len())) {
            let digits = record.iter_mut().skip(item_at).zip([8, 4, 0]);
            for (digit, shift) in digits {
                let place = usize::from(item.wrapping_shr(shift) & 0xf);
                *digit = HEX.get(place).copied().unwrap_or_default();
            }
        }
        message
    }

    fn usage_record(&self, number: u64) -> UsageRecord {
        UsageRecord {
            record_id: self.record_id(number),
            tenant: self.tenant(number),
            model: MODEL.to_owned(),
            payload: Some(Payload::Usage(usage(self.workload.tokens(number)))),
            ..Default::default()
        }
    }

    /// A `UUIDv7` of now, unique by run and call, for the first item of a batch.
    fn record_id(&self, number: u64) -> String {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or_default();
        let id_ms = self.started_ms.saturating_add(elapsed_ms);
        let (high, low) = (id_ms.wrapping_shr(16), id_ms & 0xffff);
        format!(
            "{high:08x}-{low:04x}-7000-8{:03x}-{number:012x}",
            self.run & 0xfff
        )
    }
}

fn usage(tokens: Tokens) -> Usage {
    Usage {
        uncached_input_tokens: tokens.input,
        cache_read_tokens: tokens.cached,
        visible_output_tokens: tokens.output,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Outcome;

    #[test]
    fn records_of_a_batch_differ_by_their_ids_alone() -> Outcome<()> {
        let arguments = "record --address a --batch 500 --tenants 3 --tenant-prefix t";
        let options = Options::parse(arguments.split(' ').map(str::to_owned))?;
        let workload = Workload::new(options.tenants, false, "")?;
        let messages = Messages::new(&options, workload, 0x0123_4567_89ab);
        let records = RecordBatchRequest::decode(&messages.record_batch(5)[..])?.records;
        let ids: BTreeSet<&str> = records.iter().map(|record| &record.record_id[..]).collect();
        assert_eq!((records.len(), ids.len()), (500, 500));
        let last = &records[499];
        assert_eq!(&last.record_id[8..19], "-89ab-71f3-", "item 499");
        assert_eq!(last.tenant, "t-2");
        let alike = |record: &UsageRecord| {
            (
                record.tenant.clone(),
                record.payload.clone(),
                record.record_id.len(),
            )
        };
        assert!(records.iter().all(|record| alike(record) == alike(last)));
        Ok(())
    }
}
