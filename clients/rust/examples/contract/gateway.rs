// SPDX-License-Identifier: Apache-2.0
//! An axum server behind the layer, for the contract suite.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Router};
use taximeter::v1::usage_record::Payload;
use taximeter::v1::{CheckQuotaRequest, Usage, UsageRecord};
use taximeter::{Call, Client, Metering, MeteringLayer};
use tokio::net::TcpListener;

/// Starts one on a port of its own; returns its URL.
pub(crate) async fn start(client: Client) -> String {
    let metering = Metering {
        check: Arc::new(|headers, _| check_of(headers)),
        fail_open: false,
        on_error: Arc::new(|error| panic!("{error}")),
    };
    let router = Router::new()
        .fallback(serve)
        .layer(MeteringLayer::new(client, metering));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn usage(tokens: &str) -> Usage {
    Usage {
        visible_output_tokens: tokens.parse().expect("a number"),
        ..Default::default()
    }
}

fn check_of(headers: &HeaderMap) -> Option<CheckQuotaRequest> {
    let estimate = header(headers, "x-estimate");
    Some(CheckQuotaRequest {
        tenant: header(headers, "x-tenant")?.to_owned(),
        model: "gpt-5".to_owned(),
        estimate: estimate.map(usage),
        hold_ttl: estimate.map(|_| prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Default::default()
    })
}

async fn serve(call: Option<Extension<Call>>, headers: HeaderMap) -> Result<&'static str, StatusCode> {
    if header(&headers, "x-fail").is_some() {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    if let (Some(Extension(call)), Some(used)) = (call, header(&headers, "x-used")) {
        call.use_(UsageRecord {
            model: "gpt-5".to_owned(),
            payload: Some(Payload::Usage(usage(used))),
            ..Default::default()
        });
    }
    Ok("served")
}
