// SPDX-License-Identifier: Apache-2.0
//! Generated messages.

// Generated for all services; Python serves most of them.
#![allow(dead_code, unreachable_pub, clippy::all, clippy::pedantic)]

pub(crate) mod taximeter {
    pub(crate) mod v1 {
        include!(concat!(env!("OUT_DIR"), "/taximeter.v1.rs"));
    }
    pub(crate) mod ledger {
        pub(crate) mod v1 {
            include!(concat!(env!("OUT_DIR"), "/taximeter.ledger.v1.rs"));
        }
    }
}
pub(crate) mod google {
    pub(crate) mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}
