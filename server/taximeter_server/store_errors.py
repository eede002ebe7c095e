# SPDX-License-Identifier: Apache-2.0
"""From the Redis client's errors to ours."""

import contextlib
from collections.abc import Iterator

import redis

from taximeter_server.errors import StoreCorruptError, StoreFullError, StoreUnavailableError


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the client's errors into ours; their text stays in the cause, for the log."""
    try:
        yield
    except redis.OutOfMemoryError as error:
        raise StoreFullError from error
    except redis.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise StoreCorruptError(str(error)) from error
        raise StoreUnavailableError from error
    except redis.RedisError as error:
        raise StoreUnavailableError from error
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"a document is not UTF-8: {error}") from error
