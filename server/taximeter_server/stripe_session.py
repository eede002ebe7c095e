# SPDX-License-Identifier: Apache-2.0
"""What all calls of Stripe share: the client, names by which things are made once and found again, and errors."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from taximeter_server.payment_provider import PushError

if TYPE_CHECKING:
    import stripe

TIMEOUT_SECONDS = (5, 20)
"""Of connecting, and of each wait for bytes."""
PROBLEM_LENGTH_MAX = 300
INSTANCE = "taximeter_instance"
ACCOUNT, INVOICE, CREDIT_NOTE, CHARGE = (
    f"taximeter_{name}" for name in ("account", "invoice", "credit_note", "charge")
)
"""Names of metadata: what of ours an object is."""

_HUNDREDFOLD = frozenset({"ISK", "UGX"})
"""Currencies without decimals that Stripe takes with two."""


class StripeSession:
    """A Stripe account, as one ledger uses it."""

    def __init__(self, *, key: str, url: str, instance: str) -> None:
        """See StripePayments."""
        # Only who has configured it needs the library.
        import stripe  # noqa: PLC0415 (see above)

        stripe.enable_telemetry = False
        self.library = stripe
        # The library's own retries are left out: the outbox makes them, and remembers them.
        self.client: stripe.StripeClient = stripe.StripeClient(
            key,
            base_addresses={"api": url},
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
            max_network_retries=0,
        )
        self.instance = instance
        self._key = key

    def metadata(self, name: str, value: str) -> dict[str, str]:
        """Return the metadata of an object."""
        return {INSTANCE: self.instance, name: value}

    def query(self, name: str, value: str) -> str:
        """Return what finds it. What was made within the last minute may be missing."""
        # Ids have no quotes and no backslashes.
        return f"metadata['{INSTANCE}']:'{self.instance}' AND metadata['{name}']:'{value}'"

    def options(self, kind: str, name: str) -> "stripe.RequestOptions":
        """Return the options of a call that makes something: Stripe makes it once, for a day at least."""
        return {"idempotency_key": f"taximeter-{self.instance}-{kind}-{name}"}

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the library's errors into ours. Their texts may quote the key, or what was sent."""
        library = self.library
        try:
            yield
        except library.CardError as error:
            raise PushError(f"the card was declined: {error.code}", is_final=True) from error
        except (library.AuthenticationError, library.PermissionError) as error:
            raise PushError("Stripe does not accept the key, or not for this") from error
        except library.RateLimitError as error:
            raise PushError("Stripe asks to wait") from error
        except library.APIConnectionError as error:
            raise PushError("no answer from Stripe") from error
        except library.StripeError as error:
            status = error.http_status or 0
            is_final = isinstance(error, library.InvalidRequestError) and status not in {409, 429}
            text = (
                f"Stripe answered {status}: {error.code or type(error).__name__} {error.user_message or ''}"
            )
            # Stripe quotes what it was sent.
            text = text.replace(self._key, "(the key)").strip()[:PROBLEM_LENGTH_MAX]
            raise PushError(text, is_final=is_final) from error


def stripe_amount(cents: int, currency_code: str) -> int:
    """Return an amount in the unit in which Stripe takes it."""
    return cents * 100 if currency_code in _HUNDREDFOLD else cents
