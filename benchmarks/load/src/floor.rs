// SPDX-License-Identifier: Apache-2.0
//! The floor: a front with the settings of the real one and an empty handler.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::Outcome;

const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

/// Answers every call with an empty message, until killed.
pub(crate) async fn serve(listener: TcpListener) -> Outcome<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(1_000)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(async move {
            // A broken connection is its client's business.
            let _ = connection.await;
        });
    }
}

/// Answers a call with an empty message.
pub(crate) async fn answer(
    request: Request<Incoming>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body =
        Full::new(Bytes::from_static(EMPTY_MESSAGE)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
