// SPDX-License-Identifier: Apache-2.0
//! Measures what this client adds to a check: p50 of `Client::check` beside that of the bare generated stub, in
//! turns, on one connection each, against the server that the environment names. Arguments: rounds, and calls per
//! turn.

use std::time::{Duration, Instant};

use taximeter::v1::CheckQuotaRequest;
use taximeter::v1::metering_service_client::MeteringServiceClient;
use taximeter::{Client, Options};
use tonic::Request;
use tonic::transport::Endpoint;

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let rounds: usize = arguments.next().transpose()?.unwrap_or(20);
    let calls: usize = arguments.next().transpose()?.unwrap_or(500);
    let client = Client::connect(&Options::default())?;
    let channel = Endpoint::from_shared(std::env::var("TAXIMETER_URL")?)?
        .connect()
        .await?;
    let stub = MeteringServiceClient::new(channel);
    let key: tonic::metadata::MetadataValue<_> =
        format!("Bearer {}", std::env::var("TAXIMETER_KEY")?).parse()?;
    let request = CheckQuotaRequest {
        tenant: "overhead".to_owned(),
        model: "gpt-5".to_owned(),
        ..Default::default()
    };

    let by_stub = async || {
        let mut asked = Request::new(request.clone());
        asked.metadata_mut().insert("authorization", key.clone());
        stub.clone()
            .check_quota(asked)
            .await
            .map(drop)
            .map_err(Failed::from)
    };
    let by_client = async || {
        client
            .check(request.clone())
            .await
            .map(drop)
            .map_err(Failed::from)
    };
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (of_stub, of_client) = (measure(calls, &by_stub).await?, measure(calls, &by_client).await?);
        // The first is to warm up.
        if round > 0 {
            bare.extend(of_stub);
            ours.extend(of_client);
        }
    }
    bare.sort_unstable();
    ours.sort_unstable();
    for percent in [50, 99] {
        let index = bare.len() * percent / 100;
        let (bare, ours) = (bare[index].as_nanos(), ours[index].as_nanos());
        let added = (i128::try_from(ours)? - i128::try_from(bare)?) / 100;
        let sign = if added < 0 { '-' } else { '+' };
        let (whole, tenth) = (added.abs() / 10, added.abs() % 10);
        println!(
            "rust p{percent}: stub {} us, client {} us, client adds {sign}{whole}.{tenth} us",
            bare / 1_000,
            ours / 1_000
        );
    }
    Ok(())
}

async fn measure(calls: usize, call: &impl AsyncFn() -> Result<(), Failed>) -> Result<Vec<Duration>, Failed> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let began = Instant::now();
        call().await?;
        times.push(began.elapsed());
    }
    Ok(times)
}
