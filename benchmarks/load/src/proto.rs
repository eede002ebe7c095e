// SPDX-License-Identifier: Apache-2.0
//! Generated messages.

#![allow(dead_code, unreachable_pub, clippy::all, clippy::pedantic)]

pub(crate) mod taximeter {
    pub(crate) mod v1 {
        include!(concat!(env!("OUT_DIR"), "/taximeter.v1.rs"));
    }
}
pub(crate) mod google {
    pub(crate) mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}
