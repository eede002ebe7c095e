# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with plans that cost something, subscriptions and invoices."""

from taximeter_server.errors import RequestError


class PlanWithoutTermsError(RequestError):
    """Nobody can subscribe to a plan without a price."""

    reason = "PLAN_WITHOUT_TERMS"

    def __init__(self, plan: str) -> None:
        super().__init__("plan: it has no terms, so nobody can subscribe to it", {"plan": plan})


class SubscriptionUnknownError(RequestError):
    """The tenant never had a subscription."""

    reason = "SUBSCRIPTION_UNKNOWN"

    def __init__(self, tenant: str) -> None:
        super().__init__("the tenant has no subscription", {"tenant": tenant})


class SubscriptionExistsError(RequestError):
    """Another subscription is in force."""

    reason = "SUBSCRIPTION_EXISTS"

    def __init__(self, tenant: str) -> None:
        super().__init__(
            "the tenant has another subscription: change its plan, or cancel it", {"tenant": tenant}
        )


class SubscriptionChangedError(RequestError):
    """It is not what the caller has looked at, or others change it all the time."""

    reason = "SUBSCRIPTION_CHANGED"

    def __init__(self, revision: int) -> None:
        super().__init__("the subscription has been changed: look at it again", {"revision": str(revision)})


class SubscriptionEndedError(RequestError):
    """What has ended cannot be changed."""

    reason = "SUBSCRIPTION_ENDED"

    def __init__(self, tenant: str) -> None:
        super().__init__("the subscription has ended: put another", {"tenant": tenant})


class InvoiceUnknownError(RequestError):
    """There is no such document."""

    reason = "INVOICE_UNKNOWN"

    def __init__(self, invoice_id: str) -> None:
        super().__init__("no such invoice", {"invoice_id": invoice_id})


class InvoiceNotDueError(RequestError):
    """Its period goes on, or an earlier one has to be finalised first."""

    reason = "INVOICE_NOT_DUE"

    def __init__(self, invoice_id: str) -> None:
        super().__init__(
            "its period goes on, or an earlier one has to be finalised first", {"invoice_id": invoice_id}
        )


class InvoiceStateError(RequestError):
    """What is asked for cannot be done to a document in this state."""

    reason = "INVOICE_STATE"

    def __init__(self, invoice_id: str, state: str) -> None:
        super().__init__(
            f"an invoice that is {state} cannot be changed so", {"invoice_id": invoice_id, "state": state}
        )


class CreditTooLargeError(RequestError):
    """Credit notes cannot give back more than the invoice asked for."""

    reason = "CREDIT_TOO_LARGE"

    def __init__(self, invoice_id: str, left_minor: int) -> None:
        super().__init__(
            f"more than the {left_minor} minor units that are left of the invoice",
            {"invoice_id": invoice_id, "left_minor": str(left_minor)},
        )


class CreditNoteConflictError(RequestError):
    """The request_id was used for another credit note."""

    reason = "REQUEST_ID_CONFLICT"

    def __init__(self, request_id: str) -> None:
        super().__init__("the request_id was used for another credit note", {"request_id": request_id})


class TopUpConflictError(RequestError):
    """The request_id was used for another top-up."""

    reason = "REQUEST_ID_CONFLICT"

    def __init__(self, request_id: str) -> None:
        super().__init__("the request_id was used for another top-up", {"request_id": request_id})
