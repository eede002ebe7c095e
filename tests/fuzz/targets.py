# SPDX-License-Identifier: Apache-2.0
"""Everything that reads what strangers send or what a disk may have bent, as targets for fuzzing."""

import base64
import contextlib
import csv
import hashlib
import importlib.resources
import io
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from harness.fuzzing import Target
from harness.grpc_status import refusal_of
from harness.store_process import StoreProcess
from taximeter.cli.output import Column, csv_text
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native
from taximeter_server.errors import PageTokenError
from taximeter_server.ledger import StreamId
from taximeter_server.page_token import PageToken
from taximeter_server.pages import PageTokens
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.rate_card_problems import RateCardInvalidError
from taximeter_server.report_as_of import AsOf
from taximeter_server.report_csv import text_cell
from taximeter_server.tenant_prices import parse_tenant_prices

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")
REFUSED = {"INTERNAL", "UNKNOWN", "DATA_LOSS"}
"""Codes with which no input may be answered."""
SECRET = b"k" * 32
HOLD = b"h" * 30


def messages() -> dict[str, list[Any]]:
    """Return good requests of the hot methods, by method."""
    record = pb.RecordRequest()
    record.record.record_id = "fuzz-record-0000001"
    record.record.tenant = "fuzz/team"
    record.record.model = "gpt-5"
    record.record.provider = "openai"
    record.record.usage.uncached_input_tokens = 1000
    record.record.usage.other["pages"] = 3
    record.record.attributes["team"] = "a"
    record.record.occur_time.FromMilliseconds(1_790_000_000_000)
    batch = pb.RecordBatchRequest(records=[record.record, record.record])
    check = pb.CheckQuotaRequest(tenant="fuzz/team", model="gpt-5", request_id="fuzz-request-00001")
    check.estimate.visible_output_tokens = 10
    check.hold_ttl.FromSeconds(5)
    extend = pb.ExtendHoldRequest(tenant="fuzz/team", hold_id=HOLD.decode())
    extend.hold_ttl.FromSeconds(5)
    release = pb.ReleaseHoldRequest(tenant="fuzz/team", hold_id=HOLD.decode())
    return {
        "Record": [record],
        "RecordBatch": [batch],
        "CheckQuota": [check],
        "ExtendHold": [extend],
        "ReleaseHold": [release],
    }


def message_target(method: str, channel: Any, metadata: Any) -> Target:
    """Send a bent message to the real server: whatever it is, the answer is no defect."""
    call = channel.unary_unary(f"/taximeter.v1.MeteringService/{method}")

    def run(data: bytes) -> None:
        try:
            call(data, metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            assert refusal.code not in REFUSED, refusal

    corpus = [message.SerializeToString() for message in messages()[method]]
    return Target(method, corpus, run)


def yaml_target(name: str, parse: Callable[[str], object], corpus: list[bytes]) -> Target:
    """Read a bent card: it is a card, or all its problems are named."""

    def run(data: bytes) -> None:
        problems: Sequence[object] = (None,)
        try:
            parse(data.decode("utf-8", "replace"))
        except RateCardInvalidError as error:
            problems = error.problems
        assert problems

    return Target(name, corpus, run)


def card_targets() -> list[Target]:
    """Return the readers of cards and of tenants' own prices."""
    package = importlib.resources.files("taximeter_server")
    default = (package / "default_rate_card.yaml").read_bytes()
    small = b'billing:\n  rate_card:\n    "gpt-5":\n      input: "1.25"\n      output: "10"\n      when:\n'
    small += b'      - {tier: [batch], multiply: "0.5"}\n'
    own = b'billing:\n  markup_basis_points: -500\n  rate_card:\n    "gpt-5": {input: "1", output: "2"}\n'
    return [
        yaml_target("rate card", parse_rate_card, [default[:2000], small]),
        yaml_target("own prices", parse_tenant_prices, [own]),
    ]


def token_targets() -> list[Target]:
    """Return the readers of page tokens: only what they made themselves is opened."""
    tokens = PageTokens(SECRET)
    sealed = tokens.seal("binding", "cursor")
    as_of = AsOf(1_790_000_000_000, 3, {1: StreamId(1_790_000_000_000, 5)})
    paged = PageToken(as_of, 7).encode(SECRET, b"query")

    def open_list(data: bytes) -> None:
        with contextlib.suppress(PageTokenError):
            assert tokens.open("binding", data.decode("latin-1")) == "cursor"

    def open_report(data: bytes) -> None:
        with contextlib.suppress(PageTokenError):
            assert PageToken.decode(data.decode("latin-1"), SECRET, b"query").offset == 7

    return [
        Target("list token", [sealed.encode(), base64.urlsafe_b64encode(b"x" * 40)], open_list),
        Target("report token", [paged.encode()], open_report),
    ]


def csv_targets() -> list[Target]:
    """Return the writers of CSV: a cell comes back as it was, and no spreadsheet runs it."""
    corpus = [b"acme", b"=1+1", b'say "hi", twice', b"a\r\nb", b"@SUM(A1)", b"-5", b"\t=1"]

    def run_server(data: bytes) -> None:
        _check_cell(text_cell(data.decode("latin-1")), data.decode("latin-1"))

    def run_client(data: bytes) -> None:
        text = csv_text([Column("a", "a")], [{"a": data.decode("latin-1")}])
        _check_cell(text.partition("\n")[2].removesuffix("\n"), data.decode("latin-1"))

    return [Target("server's cell", corpus, run_server), Target("client's cell", corpus, run_client)]


def _check_cell(written: str, text: str) -> None:
    (row,) = list(csv.reader(io.StringIO(f"{written},end\n", newline=""), strict=True))
    assert len(row) == 2
    assert row[0].removeprefix("'") == text.removeprefix("'")
    assert not row[0].startswith(FORMULA_STARTS)


def journal_target(store: StoreProcess, directory: Path) -> Target:
    """Open a bent journal: what is whole comes back, and nothing falls over."""
    directory.mkdir()
    good = directory / "good"
    _record(store, good)
    (segment, *_) = sorted(good.glob("*.journal"))
    bent = directory / "bent"

    def run(data: bytes) -> None:
        shutil.rmtree(bent, ignore_errors=True)
        shutil.copytree(good, bent)
        (bent / segment.name).write_bytes(data)
        engine = _native.Engine(store_url=store.url, journal_dir=str(bent), exclusive_store=True)
        try:
            engine.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=10_000)
        except _native.JournalError:
            return
        finally:
            engine.close()

    return Target("journal", [segment.read_bytes()[:4096]], run)


def _record(store: StoreProcess, journal: Path) -> None:
    engine = _native.Engine(store_url=store.url, journal_dir=str(journal), exclusive_store=True)
    engine.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=10_000)
    card = parse_rate_card('billing:\n  rate_card:\n    "gpt-5": {input: "1", output: "2"}\n')
    canonical = card.canonical_json.decode()
    card_id = hashlib.sha256(card.canonical_json).hexdigest()
    entry = f'{{"version": 1, "effective_time_ms": 0, "rate_card_id": "{card_id}"}}'
    engine.set_catalogue(
        f'{{"revision": 1, "timeline": [{entry}], "rate_cards": {{"{card_id}": {canonical}}}, "keys": []}}'.encode()
    )
    for number in range(5):
        record = messages()["Record"][0]
        record.record.record_id = f"fuzz-journal-{number:06}"
        record.record.ClearField("occur_time")
        engine.record(record.SerializeToString())
    engine.close()


class BentStore:
    """Listens like a store, answers with whatever it is told, and hangs up."""

    def __init__(self, socket_path: Path) -> None:
        self.answer = b""
        self.url = f"unix://{socket_path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(socket_path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            # Some connections of an engine say nothing for now.
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):
            caller.recv(1 << 20)
            caller.sendall(self.answer)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def resp_target(directory: Path) -> tuple[Target, Callable[[], None]]:
    """Answer the engine's commands with bent replies of a store: that is a store that is away. Also returns the end."""
    store = BentStore(directory / "bent.sock")
    engine = _native.Engine(
        store_url=store.url, journal_dir=str(directory / "resp-journal"), exclusive_store=True
    )
    corpus = [
        b"+OK\r\n+OK\r\n",
        b":1\r\n",
        b"$2\r\nab\r\n",
        b"*2\r\n:1\r\n$-1\r\n",
        b"-ERR x\r\n",
        b"*-1\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b"*3\r\n*1\r\n*1\r\n:1\r\n",
    ]

    def run(data: bytes) -> None:
        store.answer = data
        with contextlib.suppress(_native.StoreUnavailableError, _native.StoreCorruptError):
            engine.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=1)

    def end() -> None:
        engine.close()
        store.close()

    return Target("store's replies", corpus, run), end
