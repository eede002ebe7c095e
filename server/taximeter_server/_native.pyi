# SPDX-License-Identifier: Apache-2.0
"""The hot path, compiled from native/. This stub is the contract; stubtest checks it against the binary.

Every blocking function releases the GIL. Times are milliseconds since 1970 UTC unless the name says nanos.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self, TypedDict, TypeVar, final

from taximeter_server.limits import Limits
from taximeter_server.tenants import Tenant

_Meaning = TypeVar("_Meaning")
_Parsed = TypeVar("_Parsed")

__version__: str
PARTITION_COUNT: int
"""Number of partitions of the ledger, 64. A tenant's partition follows from its first segment."""

STORE_ALLOCATOR: bytes
"""A shared library with the C library's allocation functions, for LD_PRELOAD."""

def method_roles() -> dict[str, tuple[str, ...] | None]:
    """Who may call each method, by its full name: None is anyone, () is any valid key, else keys of these roles."""

def partition_of(tenant: str) -> int:
    """Partition of a tenant, 0 to 63."""

def key_uses(engine: Engine) -> dict[str, int]:
    """When each key that this server has seen was last used, to the minute, by key id."""

def take_denials(engine: Engine) -> list[tuple[str, str, int, str]]:
    """Take the calls of admin methods that the front refused to keys of other roles since the last time.

    (key id, full name of the method, count, "HOST:PORT" of the last), at most 101; id and method are "" for the sum
    of what was too much to be told apart.
    """

ROOT_KEY: str
"""The one key at the top of a rate card, "billing". Paths leave it out."""

@final
class Mark:
    """A place in a file: line and column from 1; line 0 stands for the whole file."""

    def __new__(cls, line: int, column: int) -> Self: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    def __hash__(self) -> int: ...

@final
class Scalar:
    """Text as it stands in a rate card. is_null: nothing stands here."""

    @property
    def text(self) -> str: ...
    @property
    def is_null(self) -> bool: ...
    @property
    def mark(self) -> Mark: ...

@final
class MappingNode:
    """Keys and values in the order of the file, without the repetitions of a key."""

    @property
    def mark(self) -> Mark: ...
    @property
    def entries(self) -> dict[str, tuple[Scalar, Scalar | MappingNode | SequenceNode | RefusedNode]]: ...
    def plain(
        self, known: dict[str, _Meaning], parse: Callable[[str, _Meaning], _Parsed | None]
    ) -> dict[str, _Parsed] | None:
        """Return what parse makes of each text and the value of its key in known.

        None when a key is not known, a value is no text, or parse makes nothing of one.
        """

@final
class SequenceNode:
    """A list."""

    @property
    def mark(self) -> Mark: ...
    @property
    def items(self) -> list[Scalar | MappingNode | SequenceNode | RefusedNode]: ...

@final
class RefusedNode:
    """Stands for an alias or a tagged value, which has been noted as a problem."""

    @property
    def mark(self) -> Mark: ...

class CardProblems(Protocol):
    """Where read_card_yaml() notes what is wrong. add() and stop() are those of rate_card_problems.ProblemList."""

    def add(self, mark: Mark, field: str, reason: str, message: str) -> None: ...
    def stop(self, mark: Mark, field: str, reason: str, message: str) -> Exception: ...

def read_card_yaml(
    text: str, problems: CardProblems
) -> Scalar | MappingNode | SequenceNode | RefusedNode | None:
    """Read one document of YAML, None when there is none.

    Raises what problems.add() raises, and what problems.stop() returns after a problem that makes the rest unreadable.
    """

def canonical_json(document: Mapping[str, object]) -> bytes:
    """Write mappings, lists, whole numbers of 64 bits and texts of ASCII as JSON, keys sorted and without spaces.

    Raises TypeError, ValueError or OverflowError for anything else.
    """

def join_path(path: str, key: str) -> str:
    """Return the path of a key below path, with as much of the key as can be repeated safely."""

def shown(text: str) -> str:
    """Quote what a rate card says, with as much of it as can be repeated safely."""

def rounded_prices(canonical_json: bytes) -> list[tuple[str, str, list[int]]]:
    """Prices that need more than 12 decimals after their multipliers: (row, class, positions in when that make it).

    One for each row and class. Raises CardError.
    """

class UsageError(ValueError):
    """Usage of a provider that contradicts itself or cannot be read; args are (field, description).

    field: "provider", "api", or a path such as "usage_json.prompt_tokens_details.cached_tokens".
    """

class NormalisedUsage(TypedDict):
    """What a provider's usage comes to."""

    classes: dict[str, int]
    calls: int
    tier: str
    region: str
    speed: str
    flags: list[str]

def normalise_usage(
    *, provider: str, api: str, usage_json: str, iteration_model: str = ""
) -> NormalisedUsage:
    """Turn the usage object of a provider's API into disjoint classes; with iteration_model that model's.

    classes: quantities above 0. tier, region and speed are those that the usage states, else "". Raises UsageError.
    """

def report_rows(
    rows_ipc: bytes, *, dimensions: Sequence[str], measures: Sequence[str], currency_code: str
) -> bytes:
    """Return a serialized taximeter.v1.ReportResponse that has the rows and nothing else.

    rows_ipc: an Arrow IPC stream of rows with the columns of report_columns.ReportColumns. dimensions: names of d0 and
    so on. measures: of report_query.MEASURES, empty for all. Raises OverflowError when a sum does not fit its field and
    ValueError when rows_ipc is something else. Releases the GIL.
    """

def usage_quantities(usage: bytes, field: str) -> list[tuple[str, int]]:
    """Check a taximeter.v1.Usage and return what it says by class, without zeros.

    field: its path in the request, such as "usage". Raises RpcError.
    """

class StoreUnavailableError(Exception):
    """The store did not answer in time, or answered that it cannot serve. Transient: try again."""

class StoreCorruptError(Exception):
    """A key in the store is not what it must be. Not transient."""

class JournalError(Exception):
    """The journal could not be locked, read or written."""

class CardError(ValueError):
    """A canonical rate card that does not compile."""

@final
class RateCard:
    """A compiled rate card. Source of the canonical form: taximeter_server.rate_card."""

    def __new__(cls, canonical_json: bytes) -> Self:
        """Compile. Raises CardError."""

    @property
    def rate_card_id(self) -> str:
        """Lower-case hex SHA-256 of canonical_json."""

    def price(
        self,
        *,
        model: str,
        usage: Mapping[str, int],
        provider: str = "",
        occur_time_nanos: int,
        tier: str = "",
        region: str = "",
        speed: str = "",
        calls: int = 1,
        tenant_prices: TenantPrices | None = None,
    ) -> PricedCall:
        """Price one call, by the tenant's own prices where it has any.

        Raises OverflowError when a line or the sum exceeds 2^63 - 1 pico-units, ValueError for a negative quantity.
        """

    def resolve(self, model: str, provider: str) -> dict[str, str] | None:
        """Say how a model's name leads to a row: {"row", "by", "matched"}; None where none is found.

        by: "name", "alias", "shortened_name", "shortened_alias", "pattern" or "unknown_model". matched: the name, alias
        or pattern of the row that matched, "" for "unknown_model".
        """

    def cost_picos(
        self,
        *,
        model: str,
        usage: Mapping[str, int],
        provider: str = "",
        occur_time_nanos: int,
        tier: str = "",
        region: str = "",
        speed: str = "",
        calls: int = 1,
        tenant_prices: TenantPrices | None = None,
    ) -> int | None:
        """Price one call and return the sum of its lines; None when a line is unpriced.

        Raises OverflowError as price() does.
        """

@final
class PricedCall:
    """A priced call. What it says is made into Python's objects when it is asked for."""

    @property
    def row(self) -> str | None:
        """Row of the card, None without a model or when no row matches."""

    @property
    def overlays_applied(self) -> list[int]:
        """Positions in the row's when, ascending."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def quota_tokens(self) -> int:
        """Tokens that count against tokens per day."""

    @property
    def lines(self) -> list[PricedLine]:
        """One per class used, in the order of the usage."""

    @property
    def cost_picos(self) -> int:
        """Sum of the lines."""

    @property
    def list_cost_picos(self) -> int:
        """Sum of the lines by the card alone; cost_picos unless the tenant has prices of its own."""

    @property
    def unknown_model(self) -> bool:
        """A model was named that no row matches."""

@final
class PricedLine:
    """The price of one class of a call: billed_quantity * amount_picos / per, rounded half to even."""

    @property
    def usage_class(self) -> str: ...
    @property
    def priced_as(self) -> str | None:
        """Class whose price it is, None when unpriced."""

    @property
    def quantity(self) -> int: ...
    @property
    def billed_quantity(self) -> int: ...
    @property
    def unit_price(self) -> str | None:
        """Price of per units as a decimal, None when unpriced."""

    @property
    def amount_picos(self) -> int: ...
    @property
    def per(self) -> int: ...
    @property
    def cost_picos(self) -> int: ...
    @property
    def unpriced(self) -> bool: ...
    @property
    def list_price(self) -> CardPrice | None:
        """What the card alone says, where the tenant has prices of its own."""

@final
class CardPrice:
    """What the card says of a line. priced_as is None, and amount_picos 0, when it has no price."""

    @property
    def priced_as(self) -> str | None: ...
    @property
    def billed_quantity(self) -> int: ...
    @property
    def amount_picos(self) -> int: ...
    @property
    def per(self) -> int: ...
    @property
    def cost_picos(self) -> int: ...

@final
class TenantPrices:
    """A tenant's compiled prices. Source of the canonical form: taximeter_server.tenant_prices."""

    def __new__(cls, canonical_json: bytes) -> Self:
        """Compile. Raises CardError."""

@final
class Engine:
    """Records, decides and prices against one store. Thread-safe; one per process and journal directory."""

    def __new__(
        cls,
        *,
        store_url: str,
        journal_dir: str,
        exclusive_store: bool,
        volatile_store: bool = False,
        attribute_sets_max: int = 1_000,
        hold_id_key: bytes | None = None,
    ) -> Self:
        """Lock the journal. Raises JournalError when another process owns it, ValueError for a bad URL.

        store_url: unix:///path/to.sock or redis://[user:password@]host:port[/db].
        exclusive_store: no other instance can change the store's catalogue, so it never goes stale.
        volatile_store: the operator accepts that the store may lose data; answers say VOLATILE.
        attribute_sets_max: most distinct sets of attributes per tenant and UTC day; the same on every instance.
        hold_id_key: 32 bytes that seal the ids of holds, the same on every instance; None makes a key of its own.
        """

    def open(self, *, archived_ids: Sequence[str], timeout_ms: int) -> None:
        """Connect, load the script library, open all partitions and replay what the store lost.

        archived_ids: per partition the last stream id in the ledger's manifest, "0-0" when none.
        Raises StoreUnavailableError after timeout_ms, StoreCorruptError, JournalError. May be called again.
        """

    def set_archived(self, partition: int, stream_id: str) -> None:
        """Say that the ledger's manifest now covers the partition through stream_id, before trimming."""

    def set_catalogue(self, catalogue_json: bytes) -> None:
        """Swap keys, rate cards and their timeline in. Raises CardError or ValueError and changes nothing.

        {"revision": int, "timeline": [{"version", "effective_time_ms", "rate_card_id", "withdrawn"}],
        "rate_cards": {id: canonical object}, "tenant_prices": [{"version", "effective_time_ms", "tenant",
        "tenant_prices_id", "withdrawn"}], "tenant_price_documents": {id: canonical object},
        "keys": [{"key_id", "secret_sha256", "role", "tenants", "expire_time_ms"}]}; revoked keys are left out; role is
        "admin", "meter" or "read"; tenant_prices_id is null where a tenant's own prices end.
        """

    def confirm_catalogue(self) -> None:
        """Say that the store's catalogue is still this one. Without it for 5 s a shared store's prices are stale."""

    def record(self, request: bytes) -> bytes:
        """Serve taximeter.v1.RecordRequest in this thread; returns RecordResponse. Raises RpcError."""

    def check_quota(self, request: bytes) -> bytes:
        """Serve taximeter.v1.CheckQuotaRequest in this thread; returns CheckQuotaResponse. Raises RpcError."""

    def extend_hold(self, request: bytes) -> bytes:
        """Serve taximeter.v1.ExtendHoldRequest in this thread; returns ExtendHoldResponse. Raises RpcError."""

    def release_hold(self, request: bytes) -> bytes:
        """Serve taximeter.v1.ReleaseHoldRequest in this thread; returns ReleaseHoldResponse. Raises RpcError."""

    def estimate(self, request: bytes) -> bytes:
        """Serve taximeter.v1.EstimateRequest; returns EstimateResponse. Raises RpcError."""

    def price_rows(self, card: RateCard, rows: bytes) -> bytes:
        """Price entries of the ledger by a card, and by their tenants' own prices of the time.

        rows: Arrow IPC stream; the rows of an entry stand together. Columns: entry (tells neighbours apart), tenant,
        model, provider, tier, region, speed (null is not stated), occur_time_us, calls, usage_class (null for
        an entry without usage), quantity.
        Returns an Arrow IPC stream with as many rows: rate_card_row, priced_as, billed_quantity, amount_picos, per
        (0 when unpriced), cost_picos, unpriced; tenant_prices_version and tenant_prices_id (0 and null where the card's
        prices are charged), list_priced_as, list_amount_picos, list_per, list_cost_picos. Raises ValueError for other
        columns, OverflowError(message, entry) when an entry costs more than 2^63 - 1 pico-units, and RpcError.
        """

    def post_adjustments(self, adjustments_json: bytes) -> list[str]:
        """Post corrections of records, durable once this returns. No quota counts them.

        [{"kind", "tenant", "record_id", "adjusted_record_id", "occur_time_us", "model", "provider", "tier", "region",
        "speed", "attributes": {}, "quality", "rate_card_id", "rate_card_version", "rate_card_row",
        "tenant_prices_version", "tenant_prices_id", "note", "author", "calls", "lines": [{"usage_class", "priced_as",
        "quantity", "billed_quantity", "calls", "amount_picos", "per", "adjusted_quantity", "previous_cost_picos",
        "cost_picos", "unpriced", "prices_unpriced", "list_priced_as", "list_billed_quantity", "list_amount_picos",
        "list_per", "list_cost_picos", "credit_cost_picos"}], "credit_returns": [{"line", "grant_id",
        "microcredits"}]}]. kind is "adjustment", "void" or "amendment"; calls, quantities, unpriced and what is about
        credits may be left out. credit_returns are given back first, then credit_cost_picos are debited anew. list_
        fields count only beside a tenant_prices_version; list_cost_picos is the change of it, as cost_picos is.
        rate_card_id may be empty.
        Returns per correction "applied", "before" (it had been posted) or "conflict" (its record_id had been used for
        another one). Raises RpcError, after which any of them may have been posted: post them again.
        """

    def change_credits(
        self,
        *,
        tenant: str,
        change_id: str,
        occur_time_ms: int,
        receive_time_ms: int,
        content: bytes,
        json: str,
        note: str,
        author: str,
    ) -> tuple[str, str]:
        """Change a credit account; durable once this returns.

        json: the change, see scripts/credits.lua. content: what tells two changes of one change_id apart. Returns
        "applied", "before" (it had been made), "conflict" (change_id had been used for another one), or "refused" and
        why. Raises RpcError, after which it may have been made: make it again.
        """

    def credit_account(self, root: str) -> bytes | None:
        """The credit account of a root tenant as JSON, None when it has none. Raises StoreUnavailableError."""

    def put_limits(self, levels: Sequence[Tenant]) -> None:
        """Set the limits of levels, in force at once. Those of levels before one that fails are set.

        Raises StoreUnavailableError.
        """

    def remove_limits(self, names: Sequence[str]) -> None:
        """Take the settings of levels away, at once: they have the default plan of their depth then, or no limits.

        What is used and held stays. Raises StoreUnavailableError.
        """

    def put_plan(self, name: str, limits: Limits | None) -> None:
        """Set the limits of a plan, in force at once for all its tenants; None removes it.

        Raises StoreUnavailableError.
        """

    def quota_status(self, tenant: str) -> bytes:
        """taximeter.v1.GetQuotaStatusResponse of the tenant and its parents. Raises StoreUnavailableError."""

    def store_time_ms(self) -> int:
        """The store's clock. Raises StoreUnavailableError."""

    def recorded_count(self) -> int:
        """How many records this engine has put into store and journal, repetitions included."""

    def begin_archive(self) -> int:
        """Name the opening of the store that entries are about to be read from. Raises StoreUnavailableError."""

    def hold_archive(self, opening: int) -> None:
        """Keep the store from being opened again until release_archive(), while a manifest is being replaced.

        Raises StoreUnavailableError when the store has been opened again since: what was read before may have been
        given back to the streams by now.
        """

    def release_archive(self) -> None:
        """Let the store be opened again."""

    def read_to_archive(self, after_ids: Sequence[str], *, count_max: int) -> tuple[bytes, list[str], int]:
        """Entries of all streams after after_ids, by partition, at most count_max; a share of each while there is more.

        Makes sure first that the journal has each of them, so that none can be doubled once it is archived.
        Returns (Arrow IPC stream of the lines, by partition, tenant and place in the stream; the last stream id read of
        each partition, or that of after_ids; number of entries).
        Raises StoreUnavailableError, StoreCorruptError, JournalError.
        """

    def read_tail(
        self,
        spans: Sequence[tuple[int, str, str]],
        *,
        columns: Sequence[str],
        intervals_us: Sequence[tuple[int, int]],
        tenants: Sequence[str] | None = None,
    ) -> tuple[bytes, list[str], bool]:
        """What reports want of many partitions' streams, oldest first.

        spans: of each partition its number, the id after which to read, and the last id. columns: names of
        ledger.SCHEMA. intervals_us: half-open, in microseconds since 1970 UTC; of usage that occurred in none there
        are no rows. tenants: paths of which, with those below, there are rows; None is all.
        Returns (Arrow IPC stream of the rows with these columns in the order of SCHEMA, the last stream id read of each
        span, whether everything has been read). It stops when it has read some 16 MiB.
        Raises StoreUnavailableError, StoreCorruptError.
        """

    def ledger_length(self) -> int:
        """Entries in all streams; records that were applied together are one. Raises StoreUnavailableError."""

    def trim_ledger(self, partition: int, *, through_id: str) -> None:
        """Drop entries up to and including through_id. Raises StoreUnavailableError."""

    def status(self) -> dict[str, object]:
        """{"store_available": bool, "store_version": str, "journal_pending_records": int, "journal_bytes": int}."""

    def close(self) -> None:
        """Finish what is under way, fsync and unlock the journal. Safe to call twice."""

class RpcError(Exception):
    """A call failed; args are (grpc code as int, message, serialized google.rpc.Status)."""

class TlsError(Exception):
    """A file of TLS cannot be used; args are (setting, problem)."""

@final
class Identities:
    """Callers that need no key of the server's own. Source of the canonical form: taximeter_server.identities."""

    def __new__(cls, identities_json: bytes, token_keys_json: bytes) -> Self:
        """Read. token_keys_json: a JWKS; keys of other kinds are passed over. Raises ValueError."""

    @property
    def token_key_count(self) -> int:
        """How many keys can verify tokens."""

@final
class Tls:
    """What new connections are accepted with: TLS 1.2 or 1.3, and HTTP/2 by ALPN."""

    def __new__(
        cls,
        *,
        certificate_pem: bytes,
        key_pem: bytes,
        client_ca_pem: bytes | None,
        client_optional: bool,
        identities: Identities,
    ) -> Self:
        """Check that certificate and key fit. Raises TlsError.

        client_ca_pem: clients must show a certificate that one of these issued; with client_optional they may. Where
        identities name certificates at all, others than those are refused in the handshake.
        """

@final
class Front:
    """The public port: records, quota checks and holds are served here, everything else is forwarded."""

    def __new__(
        cls,
        engine: Engine,
        *,
        listen: str,
        forward_socket: str,
        calls_max: int,
        connections_max: int,
        connection_age_max_ms: int,
        tls: Tls | None = None,
        identities: Identities | None = None,
    ) -> Self:
        """Bind listen ("host:port", port 0 picks one) and serve from own threads. Raises OSError, ValueError.

        Forwarded calls reach forward_socket with metadata x-taximeter-key-id, x-taximeter-role and
        x-taximeter-tenants (comma-separated, may be empty); the same names coming in from outside are dropped.
        calls_max: calls served here that are in progress or wait; one caller has half of them at most.
        The key id of a caller known by its certificate is the certificate's URI; by a token, "jwt:" and the subject.
        tls None: plaintext.
        """

    def set_access(self, tls: Tls | None, identities: Identities) -> None:
        """Accept new connections with these. A caller that is no longer known is refused at once."""

    @property
    def address(self) -> str:
        """Address as bound, "host:port"."""

    def take_unknown_token_key(self) -> bool:
        """Say whether a token has named a key that is not known, since this was asked last."""

    def drain(self, *, timeout_ms: int) -> bool:
        """Stop accepting, let calls in flight finish, close. False when timeout_ms cut some off."""
