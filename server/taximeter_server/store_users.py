# SPDX-License-Identifier: Apache-2.0
"""Users of a store, and what each may do: the server no more than it does, on keys of its own.

There is no EVAL, KEYS, FLUSHALL, DEBUG, MODULE or SCRIPT among it, and CONFIG SET is another user's: what a defect or a
stranger makes the server's connections do, scripts included, stays within these commands. docs/configuration.md shows
the same rules for a store that somebody else runs.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

KEY_PATTERN = "{tx:*"
"""Every key of ours begins like this; see native/src/keys.rs and store_names.py."""

SERVER_COMMANDS = (
    # Connections and what a store says about itself.
    "ping",
    "info",
    "time",
    "config|get",
    "select",
    # The scripts, and what they call.
    "function|load",
    "fcall",
    "exists",
    "expire",
    "get",
    "hdel",
    "hexists",
    "hget",
    "hset",
    "hsetnx",
    "incr",
    "incrby",
    "llen",
    "lrange",
    "ltrim",
    "rpush",
    "sadd",
    "scard",
    "set",
    "setrange",
    "sismember",
    "xadd",
    "xgroup|create",
    "xgroup|destroy",
    "xinfo|stream",
    "xsetid",
    # The plans of limits, the ledger's streams and the dedup marks.
    "del",
    "mset",
    "unlink",
    "xlen",
    "xrange",
    "xtrim",
    # The events, and the webhooks that get them.
    "xread",
    "zadd",
    "zrange",
    "zrem",
    "zrevrange",
    "zscore",
    # The documents.
    "discard",
    "exec",
    "hgetall",
    "hmget",
    "hvals",
    "lindex",
    "multi",
    "unwatch",
    "watch",
)
FSYNC_COMMANDS = ("config|get", "config|set", "incrby")
"""See store_fsync: an exclusive store is told to fsync for a moment."""
WAIT_COMMANDS = ("waitaof",)
"""See store_fsync: a store of somebody else is asked to say when it has fsynced. Redis knows it from 7.2 on."""

_PASSWORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class StoreUser:
    """A user of the embedded store, with a password that is made at each start."""

    name: str
    rules: tuple[str, ...]
    password: str = field(default_factory=lambda: secrets.token_hex(_PASSWORD_BYTES), repr=False)

    @property
    def line(self) -> str:
        """Its line in the store's configuration, which holds no more than the hash of the password."""
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        return " ".join(("user", self.name, "on", f"#{digest}", "resetchannels", "-@all", *self.rules))

    def url(self, socket_path: str) -> str:
        """Return the URL of the store at a socket, with this user's credentials."""
        return f"unix://{self.name}:{self.password}@{quote(socket_path)}"


def limited_rules(commands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the rules that allow these commands on our keys."""
    return (f"~{KEY_PATTERN}", *(f"+{command}" for command in commands))


def server_user() -> StoreUser:
    """Return the user of the server's connections."""
    return StoreUser("taximeter", limited_rules(SERVER_COMMANDS))


def fsync_user() -> StoreUser:
    """Return the user of the connection that has the store fsync."""
    return StoreUser("taximeter-fsync", limited_rules(FSYNC_COMMANDS))


def operator_user() -> StoreUser:
    """Return the user of a person who looks into the store."""
    return StoreUser("operator", ("~*", "+@all"))


def engine_url(url: str) -> str:
    """Return a store's URL as the engine reads it: credentials for a socket are parameters there."""
    parts = urlsplit(url)
    if parts.scheme != "unix" or parts.username is None:
        return url
    user, password = (quote(unquote(text or ""), safe="") for text in (parts.username, parts.password))
    return f"unix://{parts.path}?user={user}&pass={password}"
