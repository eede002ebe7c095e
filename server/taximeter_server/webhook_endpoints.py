# SPDX-License-Identifier: Apache-2.0
"""Webhook endpoints: where events are sent, and the secrets that sign what is sent there."""

import base64
import ipaddress
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Self
from urllib.parse import urlsplit

from taximeter_server.errors import InvalidFieldsError, StoreCorruptError, WebhookUnknownError
from taximeter_server.event_store import EventStore
from taximeter_server.quota_events import QuotaEvent
from taximeter_server.tenant_path import check_tenant, is_reached

URL_LENGTH_MAX = 2_000
NOTE_LENGTH_MAX = 200
TENANTS_MAX = 100
PERCENT_MAX = 100
OVERLAP_MS_DEFAULT = 24 * 3_600 * 1_000
OVERLAP_MS_MAX = 30 * OVERLAP_MS_DEFAULT
SECRET_PREFIX = "whsec_"  # noqa: S105 (what every secret begins with)

_SECRET_BYTES = 32
_ID_BYTES = 8
_PORT_MIN = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What an admin says of an endpoint. tenants empty means all."""

    url: str
    tenants: tuple[str, ...]
    threshold_percent_min: int
    note: str

    def check(self, field_name: str, *, allow_plaintext: bool) -> None:
        """Raise InvalidFieldsError for what cannot be."""
        check_url(self.url, f"{field_name}.url", allow_plaintext=allow_plaintext)
        if len(self.tenants) > TENANTS_MAX:
            raise InvalidFieldsError.of(f"{field_name}.tenants", f"at most {TENANTS_MAX}")
        for number, tenant in enumerate(self.tenants):
            check_tenant(tenant, f"{field_name}.tenants[{number}]")
        if not 0 <= self.threshold_percent_min <= PERCENT_MAX:
            raise InvalidFieldsError.of(f"{field_name}.threshold_percent_min", "0 to 100")
        if len(self.note) > NOTE_LENGTH_MAX:
            raise InvalidFieldsError.of(f"{field_name}.note", f"at most {NOTE_LENGTH_MAX} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint as an admin put it. Times are milliseconds since 1970 UTC by the store's clock."""

    endpoint_id: str
    settings: EndpointSettings
    create_time_ms: int
    start_time_ms: int
    """Events from before are not sent: when it was created, or last enabled."""
    # Representations end up in logs.
    secret: str = field(repr=False)
    old_secret: str = field(default="", repr=False)
    old_secret_expire_time_ms: int = 0

    def to_json(self) -> str:
        """Return the endpoint's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read an endpoint's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            settings = values["settings"]
            settings = EndpointSettings(**{**settings, "tenants": tuple(settings["tenants"])})
            return cls(**{**values, "settings": settings})
        except (ValueError, TypeError, KeyError):
            # Not the cause: it could quote a secret.
            raise StoreCorruptError("webhook endpoint document") from None

    def wants(self, event: QuotaEvent) -> bool:
        """Say whether an event is to be sent here."""
        return (
            is_reached(event.tenant, self.settings.tenants)
            and event.threshold_percent >= self.settings.threshold_percent_min
            and event.time_ms >= self.start_time_ms
        )

    def live_secrets(self, now_ms: int) -> list[str]:
        """Return the secrets that sign now, the newest first."""
        is_overlapping = self.old_secret and now_ms < self.old_secret_expire_time_ms
        return [self.secret, self.old_secret] if is_overlapping else [self.secret]


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """failing_since_ms is None while the last attempt succeeded."""

    is_disabled: bool
    failing_since_ms: int | None


class WebhookEndpoints:
    """All endpoints, as admins see and change them."""

    def __init__(self, store: EventStore, *, clock: Callable[[], int], allow_plaintext: bool) -> None:
        """clock: the store's, in milliseconds. allow_plaintext: http to other machines, too."""
        self._store = store
        self._clock = clock
        self._allow_plaintext = allow_plaintext

    def create(self, settings: EndpointSettings) -> Endpoint:
        """Create an endpoint with a secret. Raises InvalidFieldsError."""
        settings.check("endpoint", allow_plaintext=self._allow_plaintext)
        now_ms = self._clock()
        endpoint = Endpoint(
            endpoint_id=f"ep_{secrets.token_hex(_ID_BYTES)}",
            settings=settings,
            create_time_ms=now_ms,
            start_time_ms=now_ms,
            secret=_make_secret(),
        )
        self._store.put_endpoint(endpoint.endpoint_id, endpoint.to_json())
        return endpoint

    def change(self, before: Endpoint, settings: EndpointSettings) -> Endpoint:
        """Replace what an admin set, and enable the endpoint. Raises InvalidFieldsError."""
        settings.check("endpoint", allow_plaintext=self._allow_plaintext)
        endpoint = replace(before, settings=settings)
        if self.health()(before.endpoint_id).is_disabled:
            endpoint = replace(endpoint, start_time_ms=self._clock())
        self._store.put_endpoint(endpoint.endpoint_id, endpoint.to_json())
        return endpoint

    def rotate(self, before: Endpoint, overlap_ms: int) -> Endpoint:
        """Give an endpoint another secret; the present one signs for overlap_ms more. Raises InvalidFieldsError."""
        if not 0 <= overlap_ms <= OVERLAP_MS_MAX:
            raise InvalidFieldsError.of("overlap", "0 to 30 days")
        endpoint = replace(
            before,
            secret=_make_secret(),
            old_secret=before.secret,
            old_secret_expire_time_ms=self._clock() + overlap_ms,
        )
        self._store.replace_endpoint(endpoint.endpoint_id, endpoint.to_json())
        return endpoint

    def remove(self, endpoint_id: str) -> None:
        """Remove an endpoint and its deliveries. Raises WebhookUnknownError."""
        if not self._store.remove_endpoint(endpoint_id):
            raise WebhookUnknownError

    def get(self, endpoint_id: str) -> Endpoint:
        """Return an endpoint. Raises WebhookUnknownError."""
        document = self._store.endpoints().get(endpoint_id)
        if document is None:
            raise WebhookUnknownError
        return Endpoint.from_json(document)

    def list(self) -> list[Endpoint]:
        """Return all endpoints, oldest first."""
        endpoints = [Endpoint.from_json(document) for document in self._store.endpoints().values()]
        return sorted(endpoints, key=lambda endpoint: (endpoint.create_time_ms, endpoint.endpoint_id))

    def health(self) -> Callable[[str], EndpointHealth]:
        """Return what says how an endpoint is, by its id."""
        failing, disabled = self._store.endpoint_health()
        return lambda endpoint_id: EndpointHealth(endpoint_id in disabled, failing.get(endpoint_id))

    def now_ms(self) -> int:
        """Return the store's clock, by which secrets expire."""
        return self._clock()


def check_url(url: str, field_name: str, *, allow_plaintext: bool) -> None:
    """Raise InvalidFieldsError unless events may be sent to url. It is not echoed: it may hold a password."""
    if not url:
        raise InvalidFieldsError.required(field_name)
    if len(url) > URL_LENGTH_MAX or not all("!" <= character <= "~" for character in url):
        raise InvalidFieldsError.of(field_name, f"at most {URL_LENGTH_MAX} printable ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidFieldsError.of(field_name, "not a valid URL") from None
    if parts.scheme not in {"http", "https"} or not host or (port is not None and port < _PORT_MIN):
        raise InvalidFieldsError.of(field_name, "must be https://HOST[:PORT]/PATH")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidFieldsError.of(field_name, "no user, password or fragment: messages are signed")
    if parts.scheme == "http" and not allow_plaintext and not _is_loopback(host):
        raise InvalidFieldsError.of(field_name, "http only to loopback; use https")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _make_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
