# SPDX-License-Identifier: Apache-2.0
"""Callers that ask, hold, and settle, release or forget, whatever happens to the server and to its answers."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from server.api import Api

from harness.load import RETRYABLE, RPC_TIMEOUT_S, open_channel
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import quota_pb2, tenant_service_pb2

TOKENS_MAX = 20
FORGOTTEN_TTL_S = 2
LOST_SHARE = 0.2
"""Share of answers that do not arrive: the caller asks again."""
LOOK_INTERVAL_S = 0.005


@dataclass
class Seen:
    """What callers know for certain, and what was seen of the limit."""

    posted_tokens: int = 0
    placed: int = 0
    denied: int = 0
    looks: int = 0
    failures: int = 0
    over: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Add to the counts by name."""
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class HoldCallers:
    """Callers on one tenant with a limit on tokens."""

    def __init__(
        self,
        address: str,
        key: str,
        tenant: str,
        *,
        limit: int,
        callers: int,
        kept_ttl_s: int,
        used_share: float,
    ) -> None:
        """key: an admin's. limit: tokens a day; callers: how many ask at the same time.

        kept_ttl_s: how long what a caller means to settle or release may live. used_share: share of calls that use
        anything of what they held; the fewer, the longer the limit is neither far away nor used up.
        """
        self.tenant, self.limit, self.seen = tenant, limit, Seen()
        self._callers, self._kept_ttl_s, self._used_share = callers, kept_ttl_s, used_share
        self._done = threading.Event()
        self._channels = [open_channel(address) for _ in range(4)]
        self._apis = [Api(channel, key) for channel in self._channels]

    def put_limit(self) -> None:
        """Set the limit."""
        tenant = tenant_service_pb2.Tenant(
            name=self.tenant, limits=quota_pb2.Limits(tokens_per_day=self.limit)
        )
        self._apis[0].call(
            self._apis[0].tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=tenant)
        )

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            channel.close()

    def stop(self) -> None:
        """Let nobody begin another attempt."""
        self._done.set()

    def run(self, attempts: int, *, is_watched: bool) -> None:
        """Make so many attempts, or as many as there are until stop(). is_watched: look at the limit all the time."""
        watching = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(watching,))
        if is_watched:
            watcher.start()
        try:
            with ThreadPoolExecutor(self._callers) as pool:
                list(pool.map(self._attempt, range(attempts)))
        finally:
            watching.set()
            if is_watched:
                watcher.join()

    def status(self, api: Api | None = None) -> tuple[int, int]:
        """Return the tokens used and held. Raises grpc.RpcError."""
        api = api or self._apis[0]
        request = tenant_service_pb2.GetQuotaStatusRequest(tenant=self.tenant)
        (found,) = api.call(api.tenants.GetQuotaStatus, request).limits
        return found.used, found.held

    def _watch(self, watching: threading.Event) -> None:
        while not watching.wait(LOOK_INTERVAL_S):
            with contextlib.suppress(grpc.RpcError):
                used, held = self.status(self._apis[-1])
                self.seen.looks += 1
                if used + held > self.limit:
                    self.seen.over.append(f"{used} used and {held} held of {self.limit}")

    def _attempt(self, number: int) -> None:
        if self._done.is_set():
            return
        draw = random.Random(f"{self.tenant} {number}")
        tokens, is_forgotten = draw.randint(1, TOKENS_MAX), draw.random() < 0.1
        check = pb.CheckQuotaRequest(tenant=self.tenant, model="gpt-5", request_id=f"check-{number:020d}")
        check.estimate.uncached_input_tokens = tokens
        check.hold_ttl.FromSeconds(FORGOTTEN_TTL_S if is_forgotten else self._kept_ttl_s)
        answer = self._until_known(draw, lambda api: api.metering.CheckQuota, check)
        if answer.decision != pb.DECISION_ALLOW:
            self.seen.add(denied=1)
            return
        self.seen.add(placed=1)
        if is_forgotten:
            return
        if draw.random() < 0.2:
            release = pb.ReleaseHoldRequest(tenant=self.tenant, hold_id=answer.hold_id)
            with contextlib.suppress(KeyError):
                self._until_known(draw, lambda api: api.metering.ReleaseHold, release)
            return
        record = pb.RecordRequest()
        record.record.record_id = f"record-{number:020d}"
        record.record.tenant, record.record.model = self.tenant, "gpt-5"
        record.record.hold_id = answer.hold_id
        used = draw.randint(1, tokens) if draw.random() < self._used_share else 0
        record.record.usage.uncached_input_tokens = used
        self._until_known(draw, lambda api: api.metering.Record, record)
        self.seen.add(posted_tokens=used)

    def _until_known(self, draw: random.Random, method_of: Callable[[Api], Any], request: Any) -> Any:
        """Call until an answer arrives. Raises KeyError for a hold that nobody knows."""
        while True:
            api = draw.choice(self._apis)
            try:
                answer = method_of(api)(request, metadata=api.metadata, timeout=RPC_TIMEOUT_S)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise KeyError from error
                if error.code() not in RETRYABLE:
                    raise
                self.seen.add(failures=1)
                time.sleep(0.02)
                continue
            if draw.random() >= LOST_SHARE:
                return answer
