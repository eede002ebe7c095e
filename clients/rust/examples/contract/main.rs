// SPDX-License-Identifier: Apache-2.0
//! Runs the contract suite's calls with this client: one line of JSON in, one out; see
//! tests/cases/contract/README.md.

mod clock;
mod gateway;
mod messages;

use std::io::{BufRead, stdin};

use serde_json::{Value, json};
use taximeter::v1::{CheckQuotaResponse, Decision};
use taximeter::{Client, Error, Hold, Money, Options, Recorded, parse_picos, rate_limit_headers};

use crate::messages::{check_of, extension_of, limits, money, record_of, seconds, text};

/// A call that failed at the server, or a value that was refused before.
enum Failed {
    Call(Error),
    Value(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

#[derive(Default)]
struct Runner {
    client: Option<Client>,
    options: Options,
    hold: Option<Hold>,
}

impl Runner {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("connected before")
    }

    fn hold(&self) -> &Hold {
        self.hold.as_ref().expect("placed before")
    }

    async fn answer(&mut self, call: &str, given: &Value) -> Result<Value, Failed> {
        Ok(match call {
            "connect" => {
                self.options = Options {
                    url: Some(text(given, "url")),
                    key: Some(text(given, "key")),
                    ca_file: given.get("ca_file").map(|_| text(given, "ca_file").into()),
                };
                self.client =
                    Some(Client::connect(&self.options).map_err(|error| Failed::Value(error.to_string()))?);
                json!({})
            }
            "check" => decision(&self.client().check(check_of(given)).await?),
            "record" => recorded(&self.client().record(record_of(given)).await?),
            "record_batch" => self.record_batch(given).await?,
            "hold" => {
                let placed = self.client().place_hold(check_of(given)).await?;
                self.hold = placed.hold;
                decision(&placed.decision)
            }
            "extend" => {
                let answer = self.hold().extend(extension_of(given)).await?;
                json!({
                    "allowed": answer.decision() == Decision::Allow,
                    "limits": limits(&answer.limits),
                    "retry_after": answer.retry_after.map(seconds),
                })
            }
            "release" => json!({"state": self.hold().release().await?.as_str_name()}),
            "settle" => recorded(&self.hold().settle(record_of(given)).await?),
            "gateway" => json!({"url": gateway::start(self.client().clone()).await}),
            "parse_money" => {
                let picos =
                    parse_picos(&text(given, "text")).map_err(|error| Failed::Value(error.to_string()))?;
                json!({"picos": picos.to_string()})
            }
            "show" => json!({"text": shown(&(self.client(), &self.options))}),
            "format_money" => {
                let amount = Money {
                    currency_code: text(given, "currency_code"),
                    picos: text(given, "picos").parse().expect("a number"),
                };
                json!({"text": amount.to_string()})
            }
            other => panic!("no call is named {other}"),
        })
    }

    async fn record_batch(&self, given: &Value) -> Result<Value, Failed> {
        let records = given["records"]
            .as_array()
            .expect("records")
            .iter()
            .map(record_of)
            .collect();
        let outcomes = self.client().record_batch(records).await?;
        let items: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(made) => json!({"recorded": recorded(made)}),
                Err(error) => json!({"error": failure(error)}),
            })
            .collect();
        Ok(json!({"items": items}))
    }
}

/// As a log shows it.
fn shown(value: &impl std::fmt::Debug) -> String {
    format!("{value:?} {value:#?}")
}

fn decision(answer: &CheckQuotaResponse) -> Value {
    let headers: serde_json::Map<_, _> = rate_limit_headers(answer, clock::now())
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    json!({
        "allowed": answer.decision() == Decision::Allow,
        "hold_id": answer.hold_id,
        "limits": limits(&answer.limits),
        "retry_after": answer.retry_after.map(seconds),
        "duplicate": answer.duplicate,
        "estimated_cost": answer.estimated_cost.as_ref().map(money),
        "headers": headers,
    })
}

fn recorded(answer: &Recorded) -> Value {
    let response = &answer.response;
    let lines: Vec<_> = response
        .lines
        .iter()
        .map(|line| json!({"usage_class": line.usage_class, "quantity": line.quantity, "unpriced": line.unpriced}))
        .collect();
    json!({
        "record_id": answer.record_id,
        "duplicate": response.duplicate,
        "cost": response.cost.as_ref().map(money),
        "lines": lines,
        "pricing_state": response.pricing_state().as_str_name(),
        "durability": response.durability().as_str_name(),
        "limits": limits(&response.limits),
        "hold": response.hold.as_ref().map(|hold| json!({
            "state": hold.state().as_str_name(),
            "over_tokens": hold.over_tokens,
        })),
    })
}

fn failure(error: &Error) -> Value {
    let fields: Vec<_> = error.fields.iter().map(|violation| &violation.field).collect();
    json!({
        "code": messages::code_name(error.code),
        "reason": error.reason,
        "metadata": error.metadata,
        "fields": fields,
        "not_recorded": error.is_not_recorded(),
        "text": format!("{error} {}", shown(error)),
    })
}

#[tokio::main]
async fn main() {
    let mut runner = Runner::default();
    for line in stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        let answer = match runner.answer(&text(&asked, "call"), &asked["with"]).await {
            Ok(answer) => json!({"ok": answer}),
            Err(Failed::Call(error)) => json!({"error": failure(&error)}),
            Err(Failed::Value(message)) => json!({"error": {"code": "INVALID_VALUE", "text": message}}),
        };
        println!("{answer}");
    }
}
