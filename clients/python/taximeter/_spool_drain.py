# SPDX-License-Identifier: Apache-2.0
"""Sends what is in a spool, oldest first and in batches, for as long as the client is open."""

import base64
import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import grpc

from taximeter import _convert
from taximeter._metering_calls import Call
from taximeter._retry import ATTEMPT_TIMEOUT_S, pushback_of
from taximeter._session import Session
from taximeter._spool_directory import Place
from taximeter.errors import ServerError, SpoolError
from taximeter.results import Recorded
from taximeter.spool import Spool, Spooled, SpoolSettings
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc, usage_pb2

BATCH_COUNT_MAX = 500
BATCH_BYTES_MAX = 512 * 1024
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0
IDLE_S = 1.0
# A backlog takes a tenth of the time, so that it takes a tenth of what a server can do.
PAUSE_FACTOR = 9
PAUSE_MAX_S = 5.0
WARNING_AGE_MS = 7 * 86_400_000
ALARM_AGE_MS = 30 * 86_400_000
AGE_CHECK_S = 3_600.0
# What the server will never take, however often it is sent.
_DEAD_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
_logger = logging.getLogger("taximeter.spool")


class SpoolDrain:
    """A spool and the thread that sends what is in it."""

    def __init__(
        self,
        settings: SpoolSettings,
        session: Session,
        metering: metering_service_pb2_grpc.MeteringServiceStub,
    ) -> None:
        """Opens the spool and begins to send. Raises SpoolError."""
        self.spool = Spool(settings)
        self._session = session
        self._metering = metering
        self._start_delay_max_s = settings.start_delay_max_s
        self._waiting: dict[tuple[str, str], Future[Any]] = {}
        self._settled: set[Place] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failures = 0
        self._batch_count_max = BATCH_COUNT_MAX
        self._is_catching_up = not self.spool.is_empty
        self._age_checked_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="taximeter-spool", daemon=True)
        self._thread.start()

    def keep(self, call: Call[Any]) -> "Future[Any]":
        """Returns once a record is on the disk; the future has its answer when the server has it.

        A TimeoutError in the future says that the spool was closed before. Raises SpoolError.
        """
        record: usage_pb2.UsageRecord = call.request.record  # type: ignore[attr-defined]  # only records are kept
        identity = (record.tenant, record.record_id)
        with self._lock:
            future = self._waiting.setdefault(identity, Future())
        try:
            self.spool.append(record.SerializeToString())
        except SpoolError as error:
            self._finish(identity, error)
            raise
        self._wake.set()
        return future

    def close(self) -> None:
        """Stops sending, after the batch under way. What is not settled stays in the spool."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        with self._lock:
            waiting = list(self._waiting)
        for identity in waiting:
            self._finish(identity, TimeoutError())
        self.spool.close()

    def _run(self) -> None:
        if self._is_catching_up:
            self._closing.wait(random.uniform(0, self._start_delay_max_s))  # noqa: S311 (spreads load)
        while not self._closing.is_set():
            try:
                self._step()
            except OSError:
                _logger.exception("%s: the spool could not be read or written", self.spool.path)
                self._back_off(None)

    def _step(self) -> None:
        self._wake.clear()
        entries, end = self.spool.read(count_max=self._batch_count_max, bytes_max=BATCH_BYTES_MAX)
        unsettled = [entry for entry in entries if entry.place not in self._settled]
        if unsettled:
            began_s = time.monotonic()
            self._send(unsettled)
            if self._is_catching_up and not self._failures:
                took_s = time.monotonic() - began_s
                self._closing.wait(min(PAUSE_FACTOR * took_s, PAUSE_MAX_S))
        self._advance(entries, end)
        self._check_age()
        if not entries:
            self._is_catching_up = False
            if not self._wake.wait(IDLE_S):
                self.spool.note_cursor()

    def _send(self, entries: Sequence[Spooled]) -> None:
        records = [usage_pb2.UsageRecord.FromString(entry.payload) for entry in entries]
        request = metering_service_pb2.RecordBatchRequest(records=records)
        try:
            response = self._session.attempt(self._metering.RecordBatch, request, ATTEMPT_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}:
                self._back_off(error)
            elif len(entries) == 1:
                self._bury(entries[0], records[0], self._session.error(error))
            else:
                # One of them makes the batch unreadable: it is found by sending each alone.
                self._batch_count_max = 1
            return
        self._batch_count_max = BATCH_COUNT_MAX
        unknown = 0
        for entry, record, result in zip(entries, records, response.results, strict=False):
            item = _convert.batch_item(record.record_id, result)
            if item.recorded is not None:
                self._settled.add(entry.place)
                self._finish((record.tenant, record.record_id), item.recorded)
            elif item.error is not None and item.error.code in _DEAD_CODES:
                self._bury(entry, record, item.error)
            else:
                unknown += 1
        if unknown or len(response.results) != len(entries):
            self._back_off(None)
        else:
            self._failures = 0

    def _advance(self, entries: Sequence[Spooled], end: Place) -> None:
        for entry in entries:
            if entry.place not in self._settled:
                self.spool.advance(entry.place, entry.time_ms)
                break
        else:
            if end != self.spool.cursor:
                self.spool.advance(end, None)
        cursor = self.spool.cursor
        self._settled = {place for place in self._settled if place >= cursor}

    def _bury(self, entry: Spooled, record: usage_pb2.UsageRecord, error: ServerError) -> None:
        letter = {
            "time_ms": entry.time_ms,
            "code": error.code.name,
            "reason": error.reason,
            "message": error.message,
            "record": base64.b64encode(entry.payload).decode(),
        }
        self.spool.add_dead_letter(json.dumps(letter).encode())
        self._settled.add(entry.place)
        _logger.error("%s: record %s is refused for good: %s", self.spool.path, record.record_id, error)
        self._finish((record.tenant, record.record_id), error)

    def _finish(self, identity: tuple[str, str], outcome: Recorded | Exception) -> None:
        with self._lock:
            future = self._waiting.pop(identity, None)
        # Whoever asked may not wait any more.
        if future is None or not future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _back_off(self, error: grpc.RpcError | None) -> None:
        self._failures += 1
        self._is_catching_up = True
        longest_s = min(BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 20), BACKOFF_MAX_S)
        pushback_s = None if error is None else pushback_of(error)
        wait_s = random.uniform(0, longest_s)  # noqa: S311 (spreads load)
        if pushback_s is not None:
            wait_s = BACKOFF_MAX_S if pushback_s < 0 else pushback_s
        self._closing.wait(wait_s)

    def _check_age(self) -> None:
        now_s = time.monotonic()
        if now_s - self._age_checked_s < AGE_CHECK_S:
            return
        self._age_checked_s = now_s
        age_ms = self.spool.status().backlog_age_ms
        days = age_ms // 86_400_000
        if age_ms > ALARM_AGE_MS:
            _logger.critical(
                "%s: records have waited for %d days; after 34 they are refused", self.spool.path, days
            )
        elif age_ms > WARNING_AGE_MS:
            _logger.warning("%s: records have waited for %d days", self.spool.path, days)
