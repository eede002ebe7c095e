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
/// Nested as the packages are: that is how they name each other.
pub(crate) mod envoy {
    pub(crate) mod config {
        pub(crate) mod core {
            pub(crate) mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.config.core.v3.rs"));
            }
        }
    }
    pub(crate) mod extensions {
        pub(crate) mod common {
            pub(crate) mod ratelimit {
                pub(crate) mod v3 {
                    include!(concat!(
                        env!("OUT_DIR"),
                        "/envoy.extensions.common.ratelimit.v3.rs"
                    ));
                }
            }
        }
    }
    pub(crate) mod service {
        pub(crate) mod ratelimit {
            pub(crate) mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.ratelimit.v3.rs"));
            }
        }
    }
    pub(crate) mod r#type {
        pub(crate) mod v3 {
            include!(concat!(env!("OUT_DIR"), "/envoy.r#type.v3.rs"));
        }
    }
}
