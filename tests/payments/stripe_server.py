# SPDX-License-Identifier: Apache-2.0
"""A Stripe that remembers.

Every request goes through stripe-mock first, which checks it against Stripe's published OpenAPI description and makes
the shape of the answer; what was done before, and idempotency keys, are kept here.
"""

import copy
import http.client
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Document = dict[str, Any]
Params = Mapping[str, str]
CARD = {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2030}


@dataclass
class RefusalError(Exception):
    """An answer that is an error."""

    status: int
    kind: str
    message: str
    code: str | None = None

    def document(self) -> Document:
        """Return the body."""
        return {"error": {"type": self.kind, "message": self.message, "code": self.code}}


@dataclass
class Faults:
    """What goes wrong, by path. refused: until it is taken out. lost: once the work is done and no answer is sent."""

    refused: dict[str, RefusalError] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens when a request has come, once."""
    after: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens when its work is done and nothing is answered, once."""


class StripeServer:
    """Serves on loopback until closed. What it holds is there for tests to look at and to change."""

    def __init__(self, mock_port: int) -> None:
        self._mock_port = mock_port
        self._lock = threading.RLock()
        self._answers: dict[str, tuple[Params, int, Document]] = {}
        self.objects: dict[str, Document] = {}
        self.meter_events: dict[str, Document] = {}
        self.requests: list[tuple[str, str, Params]] = []
        self.faults = Faults()
        self.has_card = True
        self.declines = 0
        """How many confirmations are declined, from now on."""
        self.final_status = "open"
        self.keys: set[str] = set()
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        self._server = server
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def of_kind(self, kind: str) -> list[Document]:
        """Return the objects of a kind, in the order in which they were made."""
        return [found for found in self.objects.values() if found["object"] == kind]

    def forget_keys(self) -> None:
        """Do as if a day had passed: no idempotency key is known any more."""
        with self._lock:
            self._answers.clear()

    def answer(
        self, method: str, path: str, params: Params, headers: Mapping[str, str]
    ) -> tuple[int, Document]:
        """Answer one request."""
        with self._lock:
            self.requests.append((method, path, params))
            self.keys.add(headers.get("authorization", ""))
            key = headers.get("idempotency-key", "")
            if key in self._answers:
                known, status, document = self._answers[key]
                if known != params:
                    refusal = RefusalError(400, "idempotency_error", "Keys for idempotent requests differ")
                    return refusal.status, refusal.document()
                return status, document
            try:
                if path in self.faults.refused:
                    raise self.faults.refused[path]
                served = self._serve(method, path, params, self._checked(method, path, params))
                # As it is now: what is answered again does not change any more.
                document = copy.deepcopy(served)
            except RefusalError as refusal:
                if key and refusal.kind == "card_error":
                    # Stripe answers a key with what it answered first, a decline too.
                    self._answers[key] = (params, refusal.status, refusal.document())
                return refusal.status, refusal.document()
            if key:
                self._answers[key] = (params, 200, document)
            return 200, document

    def _checked(self, method: str, path: str, params: Params) -> Document:
        """Return what stripe-mock answers, which refuses what the API does not describe."""
        connection = http.client.HTTPConnection("127.0.0.1", self._mock_port, timeout=30)
        query = urlencode(params)
        headers = {"Authorization": "Bearer sk_test_123", "Content-Type": "application/x-www-form-urlencoded"}
        is_in_path = method in {"GET", "DELETE"}
        target = f"{path}?{query}" if is_in_path else path
        connection.request(method, target, None if is_in_path else query, headers)
        response = connection.getresponse()
        document: Document = json.loads(response.read())
        connection.close()
        if response.status != 200:
            raise RefusalError(
                response.status, "invalid_request_error", f"{path}: {document['error']['message']}"
            )
        return document

    def _serve(self, method: str, path: str, params: Params, base: Document) -> Document:
        for pattern, verb, serve in self._routes():
            found = re.fullmatch(pattern, path)
            if found and verb == method:
                return serve(base, params, *found.groups())
        raise AssertionError(f"the tests' Stripe does not know {method} {path}")

    def _routes(self) -> list[tuple[str, str, Callable[..., Document]]]:
        return [
            (r"/v1/(customers|invoices|payment_intents)/search", "GET", self._search),
            (r"/v1/customers", "POST", self._create),
            (r"/v1/customers/(\w+)", "POST", self._update),
            (r"/v1/customers/(\w+)", "GET", self._customer),
            (r"/v1/customers/(\w+)/payment_methods", "GET", self._methods),
            (r"/v1/billing_portal/sessions", "POST", self._portal),
            (r"/v1/invoices", "POST", self._create_invoice),
            (r"/v1/invoices/(\w+)", "GET", self._object),
            (r"/v1/invoices/(\w+)/lines", "GET", self._lines),
            (r"/v1/invoices/(\w+)/add_lines", "POST", self._add_lines),
            (r"/v1/invoices/(\w+)/finalize", "POST", self._finalize),
            (r"/v1/invoices/(\w+)/void", "POST", self._void),
            (r"/v1/invoices/(\w+)", "DELETE", self._delete),
            (r"/v1/credit_notes", "GET", self._notes),
            (r"/v1/credit_notes", "POST", self._create_note),
            (r"/v1/billing/meter_events", "POST", self._meter_event),
            (r"/v1/payment_intents", "POST", self._create_intent),
            (r"/v1/payment_intents/(\w+)", "GET", self._object),
            (r"/v1/payment_intents/(\w+)/confirm", "POST", self._confirm),
        ]

    def _create(self, base: Document, params: Params) -> Document:
        made = {**base, "id": f"{base['id'].partition('_')[0]}_{len(self.objects) + 1:06d}"}
        made["metadata"] = _within(params, "metadata")
        self.objects[made["id"]] = made
        return made

    def _object(self, _base: Document, _params: Params, object_id: str) -> Document:
        if object_id not in self.objects:
            raise RefusalError(
                404, "invalid_request_error", f"No such object: {object_id}", "resource_missing"
            )
        return self.objects[object_id]

    def _update(self, base: Document, params: Params, object_id: str) -> Document:
        found = self._object(base, params, object_id)
        found |= {name: value for name, value in params.items() if "[" not in name}
        found["address"] = _within(params, "address")
        return found

    def _customer(self, base: Document, params: Params, customer_id: str) -> Document:
        found = self._object(base, params, customer_id)
        method = {"id": "pm_card", "object": "payment_method", "type": "card", "card": CARD}
        return {**found, "invoice_settings": {"default_payment_method": method if self.has_card else None}}

    def _methods(self, base: Document, params: Params, customer_id: str) -> Document:
        self._object(base, params, customer_id)
        return {**base, "data": []}

    def _portal(self, base: Document, params: Params) -> Document:
        self._object(base, params, params["customer"])
        return {
            **base,
            "url": f"{self.url}/p/session/{params['customer']}",
            "return_url": params.get("return_url"),
        }

    def _search(self, base: Document, params: Params, kind: str) -> Document:
        wanted = dict(re.findall(r"metadata\['(\w+)'\]:'([^']+)'", params["query"]))
        objects = self.of_kind(kind[:-1])
        return {
            **base,
            "data": [found for found in objects if wanted.items() <= found["metadata"].items()][:1],
        }

    def _create_invoice(self, base: Document, params: Params) -> Document:
        if any(found["number"] == params["number"] for found in self.of_kind("invoice")):
            raise RefusalError(400, "invalid_request_error", "number is taken")
        made = self._create(base, params)
        own = {name: params[name] for name in ("number", "customer", "currency", "collection_method")}
        made |= {**own, "status": "draft", "total": 0, "own_lines": [], "hosted_invoice_url": None}
        return made

    def _lines(self, base: Document, params: Params, invoice_id: str) -> Document:
        lines = self._object(base, params, invoice_id)["own_lines"]
        item = base["data"][0]
        return {**base, "has_more": False, "data": [{**item, "id": f"il_{n}"} for n in range(len(lines))]}

    def _draft(self, base: Document, params: Params, invoice_id: str) -> Document:
        found = self._object(base, params, invoice_id)
        if found["status"] != "draft":
            raise RefusalError(400, "invalid_request_error", "This invoice is no longer a draft")
        return found

    def _add_lines(self, base: Document, params: Params, invoice_id: str) -> Document:
        found = self._draft(base, params, invoice_id)
        count = len({name.split("]")[0] for name in params if name.startswith("lines[")})
        lines = [_within(params, f"lines[{number}]") for number in range(count)]
        found["own_lines"] += lines
        found["total"] += sum(int(line["amount"]) for line in lines)
        return found

    def _finalize(self, base: Document, params: Params, invoice_id: str) -> Document:
        found = self._draft(base, params, invoice_id)
        found["status"] = "paid" if found["total"] <= 0 else self.final_status
        found["hosted_invoice_url"] = f"{self.url}/i/{invoice_id}"
        return found

    def _void(self, base: Document, params: Params, invoice_id: str) -> Document:
        found = self._object(base, params, invoice_id)
        if found["status"] != "open":
            raise RefusalError(400, "invalid_request_error", f"This invoice is {found['status']}")
        found["status"] = "void"
        return found

    def _delete(self, base: Document, params: Params, invoice_id: str) -> Document:
        self._draft(base, params, invoice_id)
        del self.objects[invoice_id]
        return {"id": invoice_id, "object": "invoice", "deleted": True}

    def _notes(self, base: Document, params: Params) -> Document:
        found = [one for one in self.of_kind("credit_note") if one["invoice"] == params["invoice"]]
        return {**base, "has_more": False, "data": found}

    def _create_note(self, base: Document, params: Params) -> Document:
        invoice = self._object(base, params, params["invoice"])
        amount = int(params["amount"])
        if invoice["status"] == "paid" and params.get("credit_amount") != params["amount"]:
            raise RefusalError(400, "invalid_request_error", "say where the money goes")
        if invoice["status"] not in {"open", "paid"} or (
            invoice["status"] == "open" and amount > invoice["total"] - invoice.get("credited", 0)
        ):
            raise RefusalError(400, "invalid_request_error", "cannot be credited so")
        made = self._create(base, params)
        made |= {"invoice": invoice["id"], "amount": amount, "credit_amount": params.get("credit_amount")}
        invoice["credited"] = invoice.get("credited", 0) + amount
        return made

    def _create_intent(self, base: Document, params: Params) -> Document:
        made = self._create(base, params)
        made |= {"amount": int(params["amount"]), "currency": params["currency"]}
        made |= {"customer": params["customer"], "status": "requires_payment_method", "confirmations": 0}
        return made

    def _confirm(self, base: Document, params: Params, intent_id: str) -> Document:
        found = self._object(base, params, intent_id)
        if found["status"] != "requires_payment_method":
            raise RefusalError(400, "invalid_request_error", f"it is {found['status']}")
        if params["off_session"] != "true" or params["payment_method"] != "pm_card":
            raise AssertionError(f"confirmed with {params}")
        found["confirmations"] += 1
        if self.declines > 0:
            self.declines -= 1
            raise RefusalError(402, "card_error", "Your card was declined.", "card_declined")
        found["status"] = "succeeded"
        return found

    def _meter_event(self, base: Document, params: Params) -> Document:
        identifier = params["identifier"]
        if identifier in self.meter_events:
            raise RefusalError(
                400, "invalid_request_error", f"An event already exists with identifier {identifier}."
            )
        made = {
            **base,
            "identifier": identifier,
            "payload": _within(params, "payload"),
            "timestamp": params["timestamp"],
        }
        self.meter_events[identifier] = made
        return made

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stripe = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                params = dict(parse_qsl(parts.query or body, keep_blank_values=True))
                headers = {name.lower(): value for name, value in self.headers.items()}
                stripe.faults.before.pop(parts.path, _nothing)()
                status, document = stripe.answer(self.command, parts.path, params, headers)
                stripe.faults.after.pop(parts.path, _nothing)()
                if parts.path in stripe.faults.lost:
                    stripe.faults.lost.discard(parts.path)
                    self.close_connection = True
                    return
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (names of the base class)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def _nothing() -> None:
    return


def _within(params: Params, name: str) -> dict[str, str]:
    """Return what stands below a name of the form encoding: name[key]=value."""
    prefix = f"{name}["
    return {found[len(prefix) : -1]: value for found, value in params.items() if found.startswith(prefix)}
