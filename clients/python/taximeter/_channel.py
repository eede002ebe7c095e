# SPDX-License-Identifier: Apache-2.0
"""The gRPC channel: TLS, keepalive, and which calls gRPC itself may send again."""

import json
from importlib.metadata import PackageNotFoundError, version

import grpc
import grpc.aio

from taximeter.config import Connection
from taximeter.v1 import (
    access_service_pb2,
    billing_service_pb2,
    event_service_pb2,
    metering_service_pb2,
    operations_service_pb2,
    plan_service_pb2,
    rate_card_service_pb2,
    tenant_service_pb2,
)

RESPONSE_BYTES_MAX = 64 * 1024 * 1024
_FILES = (
    access_service_pb2.DESCRIPTOR,
    billing_service_pb2.DESCRIPTOR,
    event_service_pb2.DESCRIPTOR,
    metering_service_pb2.DESCRIPTOR,
    operations_service_pb2.DESCRIPTOR,
    plan_service_pb2.DESCRIPTOR,
    rate_card_service_pb2.DESCRIPTOR,
    tenant_service_pb2.DESCRIPTOR,
)
# What is metered is retried by `_retry`. CreateKey makes another key each time, and
# prices published again could replace some that were published in between.
_NOT_RETRIED_BY_GRPC = frozenset(
    {
        "CheckQuota",
        "ExtendHold",
        "ReleaseHold",
        "Record",
        "RecordBatch",
        "RecordLevel",
        "CreateKey",
        "RotateKey",
        "PublishRateCard",
        "PutTenantPrices",
        "PutWebhookEndpoint",
        "RemoveTenantPrices",
        "RotateWebhookSecret",
    }
)


def client_version() -> str:
    """Returns the version of this distribution."""
    try:
        return version("taximeter-client")
    except PackageNotFoundError:
        return "0+source"


def service_config() -> str:
    """Returns the gRPC service config: 5 attempts on UNAVAILABLE, from a budget of 10 % of calls."""
    names = [
        {"service": service.full_name, "method": method.name}
        for file in _FILES
        for service in file.services_by_name.values()
        for method in service.methods
        if method.name not in _NOT_RETRIED_BY_GRPC
    ]
    return json.dumps(
        {
            "methodConfig": [
                {
                    "name": names,
                    "retryPolicy": {
                        "maxAttempts": 5,
                        "initialBackoff": "0.1s",
                        "maxBackoff": "2s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        }
    )


def open_channel(connection: Connection) -> grpc.Channel:
    """Opens a channel; it connects when it is first used. Raises nothing."""
    options = _options(connection)
    if not connection.address.tls:
        return grpc.insecure_channel(connection.address.target, options=options)
    return grpc.secure_channel(connection.address.target, _credentials(connection), options=options)


def open_async_channel(connection: Connection) -> grpc.aio.Channel:
    """Opens a channel of the running event loop; it connects when it is first used."""
    options = _options(connection)
    if not connection.address.tls:
        return grpc.aio.insecure_channel(connection.address.target, options=options)
    return grpc.aio.secure_channel(connection.address.target, _credentials(connection), options=options)


def _credentials(connection: Connection) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        connection.ca_pem, connection.private_key_pem, connection.certificate_pem
    )


def _options(connection: Connection) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", service_config()),
        ("grpc.primary_user_agent", f"taximeter-client/{client_version()}"),
        ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
        # A connection that died silently is noticed within 40 s, while calls are waiting on it.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A server that restarts is back within seconds; the default would wait up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if connection.address.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))
    return options
