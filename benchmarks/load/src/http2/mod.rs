// SPDX-License-Identifier: Apache-2.0
//! An HTTP/2 client for unary gRPC calls and nothing else. A general one needs as much of the cores that it shares with
//! what is measured as that does; here headers are written once, and what falls due together is one write.

mod frame;
mod hpack;
mod huffman;
mod request_headers;
mod session;
mod static_table;
mod streams;

pub(crate) use request_headers::RequestHeaders;
pub(crate) use session::Session;
pub(crate) use streams::{Answer, Failure, prefix};
