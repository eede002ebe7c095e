# SPDX-License-Identifier: Apache-2.0
"""What a case of the contract suite meets: the real server, its store, and the link to it."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from clients.contract_cases import Case, Step, Variables, differences
from clients.faulty_link import FaultyLink
from clients.runner_process import Runner

from harness.secret_scan import SESSION
from harness.server_process import ServerProcess
from taximeter import LimitKind, Limits, Meter, Role, ServerError

ROOT_TENANT = "contract"
STORE_BACK_LIMIT_S = 30
HTTP_TIMEOUT_S = 30


class World:
    """One server for all cases and languages; every run of a case has a tenant of its own."""

    def __init__(self, server: ServerProcess, tls_server: ServerProcess, ca_file: Path) -> None:
        """Connects as the administrator. tls_server: one that only the authority in ca_file vouches for."""
        self._server = server
        self._tls_server, self._ca_file = tls_server, ca_file
        self._admin = Meter(server.address, key=server.admin_key)
        self._link = FaultyLink(server.address)
        self._run_count = 0
        # Making a key waits for the disk, so those of most cases share one.
        self._shared_key = self._key({"role": "METER", "tenants": [ROOT_TENANT]})

    def close(self) -> None:
        """Closes what it opened; the server is its owner's."""
        self._link.close()
        self._admin.close()

    def run(self, case: Case, runner: Runner, language: str) -> None:
        """Runs a case. Raises AssertionError where an answer is not what the case wants."""
        self._run_count += 1
        tenant = f"{ROOT_TENANT}/{language}-{self._run_count}"
        variables = Variables(tenant=tenant, admin_key=self._server.admin_key)
        given: Mapping[str, Any] = variables.fill(dict(case.given))
        self._put_limits(given.get("limits", {}))
        self._link.answers_to_lose = self._link.connections_to_refuse = 0
        self._link.items_to_lose = frozenset()
        if given.get("tls"):
            variables.keep("key", self._tls_server.admin_key)
            variables.keep("url", f"https://{self._tls_server.address}")
            variables.keep("ca_file", str(self._ca_file))
            runner.ask("connect", variables.fill({"url": "$url", "key": "$key", "ca_file": "$ca_file"}))
        else:
            variables.keep("key", self._key(given["key"]) if "key" in given else self._shared_key)
            variables.keep("url", f"http://{self._link.address}")
            runner.ask("connect", variables.fill({"url": "$url", "key": "$key"}))
        with self._store_that_runs():
            for number, step in enumerate(case.steps, 1):
                filled = variables.fill(dict(step))
                problems = list(self._step(filled, runner, variables))
                assert not problems, f"{case.title}, step {number}, {filled}:\n" + "\n".join(problems)

    def _step(self, step: Step, runner: Runner, variables: Variables) -> Iterator[str]:
        calls_before = self._link.call_count
        match step:
            case {"limits": limits}:
                self._put_limits(limits)
            case {"key": key}:
                variables.keep("key", self._key(key))
            case {"lose": lost}:
                self._lose(lost, step)
            case {"store": state}:
                self._set_store(state)
            case {"http": path}:
                answer = _http(variables.fill("$gateway") + path, step.get("headers", {}))
                yield from differences(step["want"], answer)
            case {"call": call}:
                answer = runner.ask(call, step.get("with", {}))
                yield from _secrets_in(answer, str(variables.fill("$key")))
                outcome, wanted = ("error", step["error"]) if "error" in step else ("ok", step.get("want"))
                if outcome not in answer:
                    yield f"wanted {outcome} {wanted}, found {answer}"
                    return
                if wanted is not None:
                    yield from differences(wanted, answer[outcome])
                for name, field in step.get("keep", {}).items():
                    variables.keep(name, answer["ok"][field])
            case _:
                yield "no such step"
        if "attempts" in step and (made := self._link.call_count - calls_before) != step["attempts"]:
            yield f"wanted {step['attempts']} attempts, the link saw {made}"

    def _lose(self, lost: str, step: Step) -> None:
        if lost == "answer":
            self._link.answers_to_lose = 1
        elif lost == "items":
            self._link.items_to_lose = frozenset(step["items"])
        else:
            self._link.connections_to_refuse = step["count"]
            self._link.cut()

    def _put_limits(self, limits: Mapping[str, Mapping[str, Any]]) -> None:
        for tenant, given in limits.items():
            shadow = tuple(LimitKind(kind) for kind in given.get("shadow", ()))
            self._admin.put_tenant(tenant, Limits(**{**given, "shadow": shadow}))

    def _key(self, given: Mapping[str, Any]) -> str:
        if "secret" in given:
            return str(given["secret"])
        return self._admin.create_key(Role[given["role"]], tenants=given.get("tenants", [])).secret

    def _set_store(self, state: str) -> None:
        os.kill(self._server.store_pid, {"stopped": signal.SIGSTOP, "running": signal.SIGCONT}[state])
        deadline = time.monotonic() + STORE_BACK_LIMIT_S
        while state == "running" and time.monotonic() < deadline:
            with contextlib.suppress(ServerError):
                self._admin.check_quota("contract-probe", dry_run=True)
                return
            time.sleep(0.05)

    @contextmanager
    def _store_that_runs(self) -> Iterator[None]:
        """Leaves the store running, whatever a case did to it."""
        try:
            yield
        finally:
            os.kill(self._server.store_pid, signal.SIGCONT)


def _secrets_in(answer: Mapping[str, Any], key: str) -> Iterator[str]:
    said = json.dumps(answer)
    if key and key in said:
        yield "the key is in the answer"
    for secret in SESSION.secrets_in(said, is_status=False):
        yield f"{secret} is in the answer"


def _http(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Returns status, headers in lower case, and body of an HTTP answer, of whatever status."""
    request = Request(url, headers=dict(headers))  # noqa: S310 - an address that the runner gave
    try:
        with urlopen(request, timeout=HTTP_TIMEOUT_S) as response:  # noqa: S310 - same
            status, found, body = response.status, response.headers, response.read()
    except HTTPError as error:
        with error:
            status, found, body = error.code, error.headers, error.read()
    return {
        "status": status,
        "headers": {name.lower(): value for name, value in found.items()},
        "body": body.decode(),
    }
