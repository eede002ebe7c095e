# SPDX-License-Identifier: Apache-2.0
"""What is sent to a webhook endpoint: body and header fields of standardwebhooks.com, and how it is posted."""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from taximeter_server import __version__
from taximeter_server.quota_events import QuotaEvent
from taximeter_server.webhook_endpoints import SECRET_PREFIX

EVENT_TYPE = "quota.threshold_reached"
STEP_TIMEOUT_SECONDS = 5
"""Of connecting, and of each wait for bytes."""
ATTEMPT_TIMEOUT_SECONDS = 15
"""Of all of it: an endpoint that answers a byte at a time is cut off."""

_MS_PER_SECOND = 1_000
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class PostResult:
    """status is 0 without an answer; problem is empty for success."""

    status: int
    problem: str


def body_of(event: QuotaEvent) -> bytes:
    """Return the JSON that tells an event, the same for every attempt. Integers of 64 bits are strings."""
    document = {
        "type": EVENT_TYPE,
        "timestamp": _time_text(event.time_ms),
        "data": {
            "id": event.event_id,
            "tenant": event.tenant,
            "limit": event.limit,
            "threshold_percent": event.threshold_percent,
            "maximum": str(event.maximum),
            "used": str(event.used),
            "window_start_time": _time_text(event.window_start_s * _MS_PER_SECOND),
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _time_text(time_ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def headers_of(event_id: str, body: bytes, secrets: Sequence[str], now_ms: int) -> dict[str, str]:
    """Return the header fields of an attempt made now, signed with each of the secrets."""
    timestamp = str(now_ms // _MS_PER_SECOND)
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    signatures = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
        digest = hmac.digest(key, signed, hashlib.sha256)
        signatures.append(f"v1,{base64.b64encode(digest).decode()}")
    return {
        "content-type": "application/json",
        "user-agent": f"taximeter/{__version__}",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def post(url: str, headers: dict[str, str], body: bytes) -> PostResult:
    """Post once. Follows no redirect, and reads no more of the answer than its header."""
    parts = urlsplit(url)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(
            host, parts.port, timeout=STEP_TIMEOUT_SECONDS, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=STEP_TIMEOUT_SECONDS)
    )
    cut_off = threading.Timer(ATTEMPT_TIMEOUT_SECONDS, _cut, (connection,))
    cut_off.daemon = True
    cut_off.start()
    try:
        connection.request("POST", target, body, headers)
        status = connection.getresponse().status
    except TimeoutError:
        return PostResult(0, "timeout")
    except ssl.SSLError:
        return PostResult(0, "no trusted TLS connection")
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        return PostResult(0, f"no answer: {type(error).__name__}")
    finally:
        cut_off.cancel()
        connection.close()
    return PostResult(status, "" if status in _SUCCESS else f"answered {status}")


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        connection.sock.close()
