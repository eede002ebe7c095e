// SPDX-License-Identifier: Apache-2.0
//! What a call under way may use.

use crate::client::{CHECK_LIMIT, Client, Recorded};
use crate::error::Error;
use crate::retry::Safety;
use crate::v1::{ExtendHoldRequest, ExtendHoldResponse, HoldState, ReleaseHoldRequest, UsageRecord};

/// What a call under way may use: it counts against the limits until it is settled, released, or out of time.
#[derive(Clone, Debug)]
pub struct Hold {
    client: Client,
    tenant: String,
    id: String,
}

impl Hold {
    pub(crate) fn new(client: Client, tenant: String, id: String) -> Self {
        Self { client, tenant, id }
    }

    /// The hold's id, for [`UsageRecord::hold_id`].
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Lets the hold live and hold more; tenant and hold are filled in. Where the decision is not ALLOW it stays as
    /// it was.
    ///
    /// # Errors
    ///
    /// Where the hold is not known or has ended, or no server could say.
    pub async fn extend(&self, mut request: ExtendHoldRequest) -> Result<ExtendHoldResponse, Error> {
        request.tenant.clone_from(&self.tenant);
        request.hold_id.clone_from(&self.id);
        self.client
            .call(
                Safety::Unavailable,
                CHECK_LIMIT,
                request,
                async |mut stub, request| stub.extend_hold(request).await,
            )
            .await
    }

    /// Frees the hold, for a call that did not happen. Once more is safe; the state is how the hold ended.
    ///
    /// # Errors
    ///
    /// Where the hold is not known, or no server could say.
    pub async fn release(&self) -> Result<HoldState, Error> {
        let request = ReleaseHoldRequest {
            tenant: self.tenant.clone(),
            hold_id: self.id.clone(),
        };
        let answer = self
            .client
            .call(
                Safety::Unavailable,
                CHECK_LIMIT,
                request,
                async |mut stub, request| stub.release_hold(request).await,
            )
            .await?;
        Ok(answer.state())
    }

    /// Records what the call used; tenant and hold are filled in.
    ///
    /// # Errors
    ///
    /// As [`Client::record`].
    pub async fn settle(&self, mut record: UsageRecord) -> Result<Recorded, Error> {
        record.tenant.clone_from(&self.tenant);
        record.hold_id.clone_from(&self.id);
        self.client.record(record).await
    }
}
