"""Calls about who may do what, and about money."""

from collections.abc import Iterator

from yunhe.sdk.checked import checked
from yunhe.sdk.transport import Transport, escaped
from yunhe.wire.api import (
    AuditPage,
    BalanceView,
    DepositRequest,
    InvoiceView,
    KeyCreated,
    KeyList,
    KeyRequest,
    KeyView,
    OrganisationChange,
    OrganisationList,
    OrganisationRequest,
    OrganisationView,
    PostingPage,
    PostingView,
    Role,
    TrialBalance,
    WhoAmI,
)


class AccountCalls:
    _transport: Transport

    def whoami(self) -> WhoAmI:
        return self._transport.get(WhoAmI, "/v1/whoami")

    def balance(self, organisation: str | None = None) -> BalanceView:
        """Of one's own organisation; operators and auditors may name another."""
        return self._transport.get(BalanceView, "/v1/balance", _of(organisation))

    def invoice(self, month: str, organisation: str | None = None) -> InvoiceView:
        """The invoice of one month, written as "2026-11" (UTC); operators and auditors may name an organisation."""
        return self._transport.get(InvoiceView, f"/v1/invoices/{escaped(month)}", _of(organisation))

    def invoice_page(
        self, month: str, organisation: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> InvoiceView:
        """Its sum, and one page of its lines."""
        query = {**_of(organisation), "limit": limit, **({} if cursor is None else {"cursor": cursor})}
        return self._transport.get(InvoiceView, f"/v1/invoices/{escaped(month)}", query)

    def trial_balance(self) -> TrialBalance:
        """Every ledger account and the sum per unit, which is zero. For operators and auditors."""
        return self._transport.get(TrialBalance, "/v1/trial-balance")

    def postings(self, account: str | None = None, limit: int | None = None) -> Iterator[PostingView]:
        """Moves of money, newest first, page by page, at most `limit`: of one account, or all that one may see."""
        query = {} if account is None else {"account": account}
        return self._transport.rows(PostingPage, lambda page: page.postings, "/v1/postings", query, limit)

    def postings_page(self, account: str | None = None, *, limit: int = 100, cursor: str | None = None) -> PostingPage:
        """One page of them, and where the next one begins."""
        given = {"account": account, "cursor": cursor}
        query = {name: value for name, value in given.items() if value is not None}
        return self._transport.get(PostingPage, "/v1/postings", {**query, "limit": limit})

    def deposit(self, organisation: str, amount: str, reference: str) -> BalanceView:
        """Book money that came in, "100CNY"; the same `reference` is booked once. For operators."""
        values = {"organisation": organisation, "amount": amount, "reference": reference}
        body = checked(DepositRequest, values)
        return self._transport.post(BalanceView, "/v1/deposits", body, again=True)

    def organisations(self) -> tuple[OrganisationView, ...]:
        return self._transport.get(OrganisationList, "/v1/organisations").organisations

    def create_organisation(self, organisation: OrganisationRequest) -> OrganisationView:
        return self._transport.post(OrganisationView, "/v1/organisations", organisation)

    def change_organisation(self, organisation: str, change: OrganisationChange) -> OrganisationView:
        """Change its name, credit limit, quota or weight. With a quota below what it uses nothing new is placed, and
        what runs goes on. For operators. Raises NotFound."""
        path = f"/v1/organisations/{escaped(organisation)}"
        return self._transport.read(OrganisationView, self._transport.change("PATCH", path, change, again=True))

    def audit(self, subject: str | None = None, *, limit: int = 100, cursor: str | None = None) -> AuditPage:
        """What people changed, newest first: one page; of one site, organisation or key with `subject`. For operators
        and auditors."""
        given = {"subject": subject, "cursor": cursor}
        query = {name: value for name, value in given.items() if value is not None}
        return self._transport.get(AuditPage, "/v1/audit", {**query, "limit": limit})

    def create_key(self, organisation: str, member: str, role: Role | str) -> KeyCreated:
        """A new API key; the answer is the only place where it is ever shown. Raises InvalidInput."""
        body = checked(KeyRequest, {"organisation": organisation, "member": member, "role": role})
        return self._transport.post(KeyCreated, "/v1/keys", body)

    def keys(self) -> tuple[KeyView, ...]:
        """Keys without their secrets, revoked ones too."""
        return self._transport.get(KeyList, "/v1/keys").keys

    def revoke_key(self, key_id: str) -> KeyView:
        response = self._transport.change("DELETE", f"/v1/keys/{escaped(key_id)}", again=True)
        return self._transport.read(KeyView, response)


def _of(organisation: str | None) -> dict[str, str | int]:
    return {} if organisation is None else {"organisation": organisation}
