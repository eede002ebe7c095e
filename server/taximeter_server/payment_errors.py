# SPDX-License-Identifier: Apache-2.0
"""What can go wrong around payments; see errors.py."""

from taximeter_server.errors import RequestError


class PaymentNotConfiguredError(RequestError):
    """The server has no payment provider."""

    reason = "PAYMENT_NOT_CONFIGURED"

    def __init__(self) -> None:
        super().__init__(
            "the server has no payment provider: set stripe_key_file (TAXIMETER_STRIPE_KEY_FILE) and restart it",
            {"setting": "stripe_key_file"},
        )


class PaymentAccountUnknownError(RequestError):
    """Nobody has said how the account pays."""

    reason = "PAYMENT_ACCOUNT_UNKNOWN"

    def __init__(self, tenant: str) -> None:
        super().__init__("nobody has said yet how this account pays", {"tenant": tenant})


class PaymentProviderError(RequestError):
    """The payment provider did not do what it was asked. Transient, or for people to look at."""

    reason = "PAYMENT_PROVIDER"

    def __init__(self) -> None:
        super().__init__("the payment provider did not do it; the server's log says more")


class PaymentSignatureError(RequestError):
    """An event that the payment provider has not signed, or long ago."""

    reason = "PAYMENT_SIGNATURE"

    def __init__(self) -> None:
        super().__init__("no good signature of the payment provider")


class PaymentUnknownError(RequestError):
    """Nothing of this id was to be pushed."""

    reason = "PAYMENT_UNKNOWN"

    def __init__(self) -> None:
        super().__init__("no such payment")
