// SPDX-License-Identifier: Apache-2.0
//! Who calls, and whether the call's method and tenant are open to them.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use sha2::{Digest, Sha256};

use crate::callers::LastUse;
use crate::catalogue::Catalogue;
use crate::error::{Code, Failure};
use crate::keys::is_within;
use crate::proto::taximeter::v1::ErrorReason;

/// Bytes of a SHA-256.
pub(crate) const SECRET_HASH_SIZE: usize = 32;
const KEY_PREFIX: &str = "tx_";
/// Longer credentials are refused unread.
const CREDENTIAL_SIZE_MAX: usize = 256;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Admin,
    Meter,
    Read,
}

impl Role {
    /// The role of a name in the catalogue.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "admin" => Some(Self::Admin),
            "meter" => Some(Self::Meter),
            "read" => Some(Self::Read),
            _ => None,
        }
    }

    /// Its name in the catalogue and in metadata.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Meter => "meter",
            Self::Read => "read",
        }
    }
}

/// A key as the catalogue knows it.
#[derive(Clone)]
pub(crate) struct Key {
    /// SHA-256 of the whole secret.
    pub(crate) secret_hash: [u8; SECRET_HASH_SIZE],
    pub(crate) role: Role,
    /// Reaches these and everything below; empty reaches all.
    pub(crate) tenants: Vec<String>,
    pub(crate) expire_time_ms: Option<i64>,
    pub(crate) last_use: LastUse,
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) key_id: Arc<str>,
    pub(crate) role: Role,
    pub(crate) tenants: Arc<[String]>,
}

impl Principal {
    /// Fails unless the key reaches the tenant; the answer is the same whether the tenant exists or not. A missing
    /// tenant is reached: that it is missing is for validation to say.
    pub(crate) fn reach(&self, tenant: &str) -> Result<(), Failure> {
        let reaches = |bound: &String| is_within(tenant, bound);
        if tenant.is_empty() || self.tenants.is_empty() || self.tenants.iter().any(reaches) {
            return Ok(());
        }
        let message = "not allowed for this tenant";
        Err(Failure::new(
            Code::PermissionDenied,
            ErrorReason::TenantForbidden,
            message,
        ))
    }
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Anyone, without a key: health, and what carries a signature of its own.
    Open,
    /// Any valid key.
    AnyKey,
    /// Keys of these roles; admin is always among them.
    Roles(&'static [Role]),
}

const ADMIN: Rule = Rule::Roles(&[Role::Admin]);
const METER: Rule = Rule::Roles(&[Role::Admin, Role::Meter]);
const READ: Rule = Rule::Roles(&[Role::Admin, Role::Read]);
const ALL: Rule = Rule::Roles(&[Role::Admin, Role::Meter, Role::Read]);

impl Rule {
    /// Whether only admins may call.
    pub(crate) fn is_admin(self) -> bool {
        self == ADMIN
    }
}

/// Every method that the server knows. A method that is missing here cannot be called.
pub(crate) const METHODS: &[(&str, Rule)] = &[
    ("/taximeter.v1.MeteringService/Record", METER),
    ("/taximeter.v1.MeteringService/RecordBatch", METER),
    ("/taximeter.v1.MeteringService/VoidRecord", ADMIN),
    ("/taximeter.v1.MeteringService/AmendRecord", ADMIN),
    ("/taximeter.v1.MeteringService/CheckQuota", METER),
    ("/taximeter.v1.MeteringService/ExtendHold", METER),
    ("/taximeter.v1.MeteringService/ReleaseHold", METER),
    ("/taximeter.v1.MeteringService/RecordLevel", METER),
    ("/taximeter.v1.MeteringService/Report", READ),
    ("/taximeter.v1.MeteringService/ExportReport", READ),
    ("/taximeter.v1.MeteringService/Estimate", ALL),
    ("/taximeter.v1.RateCardService/PublishRateCard", ADMIN),
    ("/taximeter.v1.RateCardService/ValidateRateCard", ADMIN),
    ("/taximeter.v1.RateCardService/GetRateCard", READ),
    ("/taximeter.v1.RateCardService/ListRateCards", READ),
    ("/taximeter.v1.RateCardService/WithdrawRateCard", ADMIN),
    ("/taximeter.v1.RateCardService/VerifyRateCards", READ),
    ("/taximeter.v1.RateCardService/PutTenantPrices", ADMIN),
    ("/taximeter.v1.RateCardService/RemoveTenantPrices", ADMIN),
    ("/taximeter.v1.RateCardService/GetTenantPrices", READ),
    ("/taximeter.v1.RateCardService/ListTenantPrices", READ),
    ("/taximeter.v1.RateCardService/DiffRateCards", READ),
    ("/taximeter.v1.RateCardService/CompareRateCards", READ),
    ("/taximeter.v1.RateCardService/PostAdjustments", ADMIN),
    ("/taximeter.v1.RateCardService/ExplainRecord", READ),
    ("/taximeter.v1.TenantService/PutTenant", ADMIN),
    ("/taximeter.v1.TenantService/PutTenants", ADMIN),
    ("/taximeter.v1.TenantService/RemoveTenant", ADMIN),
    ("/taximeter.v1.TenantService/GetTenant", READ),
    ("/taximeter.v1.TenantService/ListTenants", READ),
    ("/taximeter.v1.TenantService/GetQuotaStatus", ALL),
    ("/taximeter.v1.TenantService/SimulateQuota", READ),
    ("/taximeter.v1.PlanService/PutPlan", ADMIN),
    ("/taximeter.v1.PlanService/GetPlan", READ),
    ("/taximeter.v1.PlanService/ListPlans", READ),
    ("/taximeter.v1.PlanService/RemovePlan", ADMIN),
    ("/taximeter.v1.BillingService/PutSubscription", ADMIN),
    ("/taximeter.v1.BillingService/GetSubscription", READ),
    ("/taximeter.v1.BillingService/ChangePlan", ADMIN),
    ("/taximeter.v1.BillingService/CancelSubscription", ADMIN),
    ("/taximeter.v1.BillingService/ListInvoices", READ),
    ("/taximeter.v1.BillingService/GetInvoice", READ),
    ("/taximeter.v1.BillingService/FinalizeInvoice", ADMIN),
    ("/taximeter.v1.BillingService/VoidInvoice", ADMIN),
    ("/taximeter.v1.BillingService/CreateCreditNote", ADMIN),
    ("/taximeter.v1.AccessService/CreateKey", ADMIN),
    ("/taximeter.v1.AccessService/ListKeys", ADMIN),
    ("/taximeter.v1.AccessService/RevokeKey", ADMIN),
    ("/taximeter.v1.AccessService/RotateKey", ADMIN),
    ("/taximeter.v1.AccessService/ListAuditEvents", ADMIN),
    ("/taximeter.v1.AccessService/VerifyAuditLog", ADMIN),
    ("/taximeter.v1.AccessService/WhoAmI", Rule::AnyKey),
    ("/taximeter.v1.BillingService/PutCreditAccount", ADMIN),
    ("/taximeter.v1.BillingService/GetCreditAccount", READ),
    ("/taximeter.v1.BillingService/GrantCredits", ADMIN),
    ("/taximeter.v1.BillingService/VoidCreditGrant", ADMIN),
    ("/taximeter.v1.BillingService/ListCreditGrants", READ),
    ("/taximeter.v1.BillingService/ListCreditEntries", READ),
    ("/taximeter.v1.BillingService/TopUpCredits", ADMIN),
    ("/taximeter.v1.BillingService/ListTopUps", READ),
    ("/taximeter.v1.OperationsService/GetServerStatus", ADMIN),
    ("/taximeter.v1.OperationsService/ListRecordConflicts", ADMIN),
    ("/taximeter.v1.EventService/ListQuotaEvents", READ),
    ("/taximeter.v1.EventService/PutWebhookEndpoint", ADMIN),
    ("/taximeter.v1.EventService/ListWebhookEndpoints", ADMIN),
    ("/taximeter.v1.EventService/RotateWebhookSecret", ADMIN),
    ("/taximeter.v1.EventService/RemoveWebhookEndpoint", ADMIN),
    ("/taximeter.v1.EventService/ListWebhookDeliveries", ADMIN),
    ("/taximeter.v1.BillingService/RenderInvoice", READ),
    ("/taximeter.v1.BillingService/PutPaymentAccount", ADMIN),
    ("/taximeter.v1.BillingService/GetPaymentAccount", READ),
    ("/taximeter.v1.BillingService/GetPaymentCard", READ),
    ("/taximeter.v1.BillingService/CreatePortalSession", ADMIN),
    ("/taximeter.v1.BillingService/ListPayments", ADMIN),
    ("/taximeter.v1.BillingService/RetryPayment", ADMIN),
    ("/taximeter.v1.BillingService/ReceivePaymentEvent", Rule::Open),
    (
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        METER,
    ),
    ("/grpc.health.v1.Health/Check", Rule::Open),
    ("/grpc.health.v1.Health/Watch", Rule::Open),
    ("/grpc.health.v1.Health/List", Rule::Open),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Rule::AnyKey,
    ),
];

/// The table for Python: None is anyone, an empty tuple any valid key, else keys of these roles.
#[pyfunction]
pub(crate) fn method_roles(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let roles = PyDict::new(py);
    for (method, rule) in METHODS {
        let names = match rule {
            Rule::Open => None,
            Rule::AnyKey => Some(Vec::new()),
            Rule::Roles(allowed) => Some(allowed.iter().map(|role| role.name()).collect()),
        };
        roles.set_item(method, names.map(|names| PyTuple::new(py, names)).transpose()?)?;
    }
    Ok(roles)
}

/// Finds out who calls. One text for every kind of bad credential.
pub(crate) fn authenticate(catalogue: &Catalogue, secret: &[u8], now_ms: i64) -> Result<Principal, Failure> {
    let refused = credentials_required;
    if secret.len() > CREDENTIAL_SIZE_MAX {
        return Err(refused());
    }
    let text = std::str::from_utf8(secret).map_err(|_| refused())?;
    let key_id = text
        .strip_prefix(KEY_PREFIX)
        .and_then(|rest| rest.split('_').next())
        .ok_or_else(refused)?;
    // Before the key is looked up, so that an unknown id takes as long as a wrong secret.
    let hash: [u8; SECRET_HASH_SIZE] = Sha256::digest(secret).into();
    let key = catalogue.key(key_id).ok_or_else(refused)?;
    let expired = key
        .expire_time_ms
        .is_some_and(|expire_time_ms| expire_time_ms <= now_ms);
    if !equal_in_constant_time(&hash, &key.secret_hash) || expired {
        return Err(refused());
    }
    key.last_use.note(now_ms);
    Ok(Principal {
        key_id: key_id.into(),
        role: key.role,
        tenants: key.tenants.as_slice().into(),
    })
}

/// The one bearer credential of a call.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    value.as_bytes().strip_prefix(b"Bearer ")
}

/// Whether a credential means to be a key of the server's own.
pub(crate) fn is_key(credential: &[u8]) -> bool {
    credential.starts_with(KEY_PREFIX.as_bytes())
}

/// Nobody whom the server knows calls. One text, whatever the reason.
pub(crate) fn credentials_required() -> Failure {
    Failure::new(
        Code::Unauthenticated,
        ErrorReason::CredentialsRequired,
        "credentials required",
    )
}

/// Fails unless the role may call the method.
pub(crate) fn authorize(rule: Rule, caller: Role, method: &str) -> Result<(), Failure> {
    match rule {
        Rule::Roles(roles) if !roles.contains(&caller) => {
            let message = "the key's role does not reach this method";
            Err(
                Failure::new(Code::PermissionDenied, ErrorReason::RoleMissing, message)
                    .with("method", method),
            )
        }
        _ => Ok(()),
    }
}

fn equal_in_constant_time(a: &[u8; SECRET_HASH_SIZE], b: &[u8; SECRET_HASH_SIZE]) -> bool {
    a.iter()
        .zip(b)
        .fold(0_u8, |difference, (x, y)| difference | (x ^ y))
        == 0
}

/// Bytes of a lower- or upper-case hex text of exactly `N` bytes.
pub(crate) fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
