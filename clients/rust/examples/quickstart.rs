// SPDX-License-Identifier: Apache-2.0

//! One check and one record, against the server on this machine.
use taximeter::v1::{CheckQuotaRequest, Decision, Usage, UsageRecord, usage_record::Payload};
use taximeter::{Client, Money, Options};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&Options::default())?;
    let check = CheckQuotaRequest {
        tenant: "acme/research".to_owned(),
        model: "gpt-5".to_owned(),
        ..Default::default()
    };
    let decision = client.check(check).await?;
    if decision.decision() != Decision::Allow {
        println!("denied; try again in {:?}", decision.retry_after);
        return Ok(());
    }

    // Here the model is called; these are the numbers of its answer.
    let usage = Usage {
        uncached_input_tokens: 1_200,
        cache_read_tokens: 800,
        visible_output_tokens: 300,
        ..Default::default()
    };
    let recorded = client
        .record(UsageRecord {
            tenant: "acme/research".to_owned(),
            model: "gpt-5".to_owned(),
            payload: Some(Payload::Usage(usage)),
            attributes: [("workflow_uuid".to_owned(), "demo".to_owned())].into(),
            ..Default::default()
        })
        .await?;
    let cost = Money::from(&recorded.response.cost.unwrap_or_default());
    println!("recorded: {cost}");
    Ok(())
}
