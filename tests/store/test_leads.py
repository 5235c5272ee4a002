"""A deal whose CRM lost the session id is found by the contacts of the form that it began with."""

from decimal import Decimal
from typing import Any

import pytest

from closedloop.domain.conversion import Identifier
from closedloop.domain.lead import Lead, lead_key
from closedloop.store.leads import tie_lead
from fix_ledger import NOW, SITE, Books, new_id, tell

PHONE = Identifier("phone", "h1")


def lead(transaction_id: str = "7:1", **told: Any) -> Lead:  # noqa: ANN401 - the fields of Lead
    """Return a lead with the phone `PHONE`."""
    fields: dict[str, Any] = {
        "lead_id": new_id(),
        "source": "tilda",
        "dedup_key": lead_key("tilda", transaction_id, b""),
        "transaction_id": transaction_id,
        "form_id": "form1",
        "form_name": "Заявка",
        "session_id": "s",
        "ym_uid": None,
        "yclid": None,
        "identifiers": (PHONE,),
        "contacts": b"sealed",
        "order_id": None,
        "order_amount": None,
        "order_paid": None,
        "received_at": NOW,
        "webhook_id": new_id(),
        **told,
    }
    return Lead(**fields)


def record(books: Books, *leads: Lead) -> None:
    """Record leads."""
    books.run(lambda conn: books.statements.leads.record(conn, SITE, leads))


def match_leads(books: Books) -> int:
    """Tie what waits to the sessions that came, as the matching stage does; return how many."""

    async def matched(conn: Any) -> int:  # noqa: ANN401 - the driver's connection
        candidates = await books.statements.waiting.find_answered(conn, SITE)
        found = await books.statements.leads.find_sessions(conn, SITE, candidates)
        return sum([await tie_lead(conn, SITE, one, NOW) for one in found])

    return books.run(matched)


def rule_of(books: Books, **told: Any) -> str | None:  # noqa: ANN401 - the fields of a conversion
    """Return by which rule a deal finds its session now."""
    deal = tell(deal_id=new_id().hex, **told)
    return books.append(deal)[deal.conversion_id].rule


def test_deal_is_found_by_the_phone_of_its_form(any_books: Books) -> None:
    """The manager types the phone into a new deal, and the session id is nowhere."""
    any_books.add_session("s")

    record(any_books, lead())

    assert rule_of(any_books, identifiers=[("phone", "h1")]) == "phone"
    assert any_books.rows("select session_row is not null, rule from closedloop.lead") == [
        (True, "session_id")
    ]


def test_lead_before_its_session_waits_for_it(any_books: Books) -> None:
    """Tilda's webhook may overtake the tracker's hit; the deal's webhook may overtake both."""
    record(any_books, lead())
    deal = tell(deal_id="1", identifiers=[("phone", "h1")])
    any_books.append(deal)

    any_books.add_session("s")

    assert match_leads(any_books) == 1
    assert any_books.match() == [(deal.conversion_id, "phone")]
    assert any_books.rows("select * from closedloop.waiting") == []


def test_lead_told_again_is_one_and_knows_of_the_payment(books: Books) -> None:
    """The order is sent when it is made, and perhaps again when it is paid."""
    record(books, lead(order_id="5", order_amount=Decimal("10.50"), order_paid=False))

    record(books, lead(order_id="5", order_amount=Decimal("10.50"), order_paid=True))
    record(books, lead(order_id="5", order_amount=None, order_paid=False))

    assert books.rows("select order_amount, order_paid from closedloop.lead") == [(Decimal("10.50"), True)]


def test_one_batch_may_tell_a_lead_twice(books: Books) -> None:
    """Both attempts of Tilda may wait in one queue."""
    record(books, lead(), lead(), lead("7:2"))

    assert len(books.rows("select 1 from closedloop.lead")) == 2


def test_lead_without_any_id_waits_for_nothing(books: Books) -> None:
    """A phone is no session: whoever has it may be known tomorrow under another."""
    record(books, lead(session_id=None))

    assert books.rows("select * from closedloop.waiting") == []
    assert books.rows("select session_row from closedloop.lead") == [None]


@pytest.mark.parametrize(
    "known_by", [{"ym_uid": "17"}, {"yclid": "9"}, {"identifiers": (PHONE, Identifier("gclid", "g"))}]
)
def test_lead_finds_its_session_by_any_id(books: Books, known_by: dict[str, Any]) -> None:
    """Without the hidden field the cookies still say who it was."""
    row = books.add_session("other", ym_uid="17", yclid="9")
    books.append(tell(deal_id="0", session_id="other", identifiers=[("gclid", "g")]))

    record(books, lead(session_id=None, **known_by))

    assert books.rows("select session_row from closedloop.lead") == [row]


def test_second_tie_changes_nothing(books: Books) -> None:
    """Two processes may look at the same moment."""
    record(books, lead())
    books.add_session("s")

    assert [match_leads(books), match_leads(books)] == [1, 0]
