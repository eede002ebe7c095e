# SPDX-License-Identifier: Apache-2.0
"""The part of the client that an administrator uses: tenants, rate cards, keys, the server."""

from collections.abc import Iterable
from datetime import datetime

from taximeter import _convert, _convert_settings
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S, Session
from taximeter._timeline import Timeline
from taximeter.results import LimitStatus, RecordConflict
from taximeter.settings import (
    Caller,
    CreatedKey,
    Key,
    Limits,
    PublishedRateCard,
    RateCard,
    RateCardCheck,
    RateCardEntry,
    Role,
    ServerStatus,
    Tenant,
)
from taximeter.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    operations_service_pb2,
    operations_service_pb2_grpc,
    rate_card_service_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)


class Administration(Timeline):
    """Calls of TenantService, RateCardService, AccessService and OperationsService. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._tenants = tenant_service_pb2_grpc.TenantServiceStub(session.channel)
        self._access = access_service_pb2_grpc.AccessServiceStub(session.channel)
        self._operations = operations_service_pb2_grpc.OperationsServiceStub(session.channel)

    def put_tenant(self, name: str, limits: Limits, *, display_name: str = "") -> Tenant:
        """Creates or replaces the settings of one level of a tenant's path; limits left out are removed."""
        settings = tenant_service_pb2.Tenant(
            name=name, display_name=display_name, limits=_convert_settings.limits_message(limits)
        )
        request = tenant_service_pb2.PutTenantRequest(tenant=settings)
        response = self._session.unary(self._tenants.PutTenant, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.tenant(response.tenant)

    def get_tenant(self, name: str) -> Tenant:
        """Returns the settings of a tenant. Raises NotFoundError when it has none."""
        request = tenant_service_pb2.GetTenantRequest(tenant=name)
        response = self._session.unary(self._tenants.GetTenant, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.tenant(response.tenant)

    def list_tenants(self, parent: str = "") -> tuple[Tenant, ...]:
        """Returns the tenants that have settings, by name; with `parent` only it and those below it."""

        def fetch(token: str) -> tenant_service_pb2.ListTenantsResponse:
            request = tenant_service_pb2.ListTenantsRequest(
                parent=parent, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._tenants.ListTenants, request, ADMINISTRATION_TIMEOUT_S)

        return tuple(_convert_settings.tenant(t) for page in self._session.pages(fetch) for t in page.tenants)

    def quota_status(self, tenant: str) -> tuple[LimitStatus, ...]:
        """Returns every limit of the tenant and its parents with what is used now, consuming nothing."""
        request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
        response = self._session.unary(self._tenants.GetQuotaStatus, request, ADMINISTRATION_TIMEOUT_S)
        return _convert.limit_statuses(response.limits)

    def publish_rate_card(
        self,
        yaml: str = "",
        *,
        rate_card_id: str = "",
        effective_time: datetime | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> PublishedRateCard:
        """Publishes a card; without `effective_time` it takes force at the earliest possible instant.

        `rate_card_id`, instead of `yaml`, publishes a card again that was published before. Raises
        InvalidArgumentError with every problem of the card, AbortedError when `expected_version` is given and is
        not the newest, PreconditionError for an effective_time less than 5 s ahead.
        """
        request = rate_card_service_pb2.PublishRateCardRequest(
            yaml=yaml,
            rate_card_id=rate_card_id,
            effective_time=_convert.timestamp(effective_time),
            expected_version=expected_version,
            note=note,
        )
        response = self._session.unary(self._rate_cards.PublishRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return PublishedRateCard(
            _convert_settings.rate_card_entry(response.entry),
            response.created,
            _convert_settings.rate_card_problems(response.warnings),
        )

    def validate_rate_card(self, yaml: str) -> RateCardCheck:
        """Checks a card without publishing it; all problems are listed at once."""
        request = rate_card_service_pb2.ValidateRateCardRequest(yaml=yaml)
        response = self._session.unary(self._rate_cards.ValidateRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.rate_card_check(response)

    def get_rate_card(self, rate_card_id: str = "", *, at_time: datetime | None = None) -> RateCard:
        """Returns a card by id or unique prefix, or the one in force at an instant, now if not given.

        Raises NotFoundError when there is none.
        """
        request = rate_card_service_pb2.GetRateCardRequest(
            rate_card_id=rate_card_id, at_time=_convert.timestamp(at_time)
        )
        response = self._session.unary(self._rate_cards.GetRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.rate_card(response)

    def list_rate_cards(self) -> tuple[RateCardEntry, ...]:
        """Returns the timeline of cards, newest first."""

        def fetch(token: str) -> rate_card_service_pb2.ListRateCardsResponse:
            request = rate_card_service_pb2.ListRateCardsRequest(
                page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._rate_cards.ListRateCards, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_settings.rate_card_entry(entry) for page in pages for entry in page.entries)

    def create_key(
        self,
        role: Role,
        *,
        tenants: Iterable[str] = (),
        note: str = "",
        expire_time: datetime | None = None,
    ) -> CreatedKey:
        """Makes a key; its secret is never shown again. Not retried: each call makes another key."""
        key = access_service_pb2.Key(
            role=access_service_pb2.Role.Value(f"ROLE_{role.value}"),
            tenants=tenants,
            note=note,
            expire_time=_convert.timestamp(expire_time),
        )
        request = access_service_pb2.CreateKeyRequest(key=key)
        response = self._session.unary(self._access.CreateKey, request, ADMINISTRATION_TIMEOUT_S)
        return CreatedKey(_convert_settings.key(response.key), response.secret)

    def list_keys(self) -> tuple[Key, ...]:
        """Returns the keys without their secrets, newest first."""

        def fetch(token: str) -> access_service_pb2.ListKeysResponse:
            request = access_service_pb2.ListKeysRequest(page_size=ADMINISTRATION_PAGE_SIZE, page_token=token)
            return self._session.unary(self._access.ListKeys, request, ADMINISTRATION_TIMEOUT_S)

        return tuple(_convert_settings.key(key) for page in self._session.pages(fetch) for key in page.keys)

    def revoke_key(self, key_id: str) -> Key:
        """Revokes a key; it is refused everywhere within 5 s. Raises NotFoundError."""
        request = access_service_pb2.RevokeKeyRequest(key_id=key_id)
        response = self._session.unary(self._access.RevokeKey, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.key(response.key)

    def whoami(self) -> Caller:
        """Returns who the caller is."""
        request = access_service_pb2.WhoAmIRequest()
        response = self._session.unary(self._access.WhoAmI, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.caller(response)

    def server_status(self) -> ServerStatus:
        """Returns the state of the server instance that answers."""
        request = operations_service_pb2.GetServerStatusRequest()
        response = self._session.unary(self._operations.GetServerStatus, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.server_status(response)

    def list_record_conflicts(self) -> tuple[RecordConflict, ...]:
        """Returns journaled records that turned out to reuse the id of another record, oldest first."""

        def fetch(token: str) -> operations_service_pb2.ListRecordConflictsResponse:
            request = operations_service_pb2.ListRecordConflictsRequest(
                page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(
                self._operations.ListRecordConflicts, request, ADMINISTRATION_TIMEOUT_S
            )

        pages = self._session.pages(fetch)
        return tuple(_convert.record_conflict(conflict) for page in pages for conflict in page.conflicts)
