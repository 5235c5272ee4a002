"""What is compared with a CRM are the conversions that count: no other site's, no cancelled one."""

from datetime import timedelta
from decimal import Decimal

from closedloop.domain.reconcile import OurConversion
from closedloop.store.reconcile import conversions_of_deals, conversions_of_period
from fix_ledger import NOW, SITE, Books, tell

DAY = (NOW - timedelta(hours=1), NOW)
OF = (SITE, "bitrix24")

SHOWN = """
    insert into closedloop.deal (site, crm, deal_id, funnel, stage, outcome, changed_at, is_deleted, is_read,
                                 read_at, findings, told, digest, sealed)
    values (%s, %s, %s, '', '', 'won', now(), false, true, now(), '[]', '{}', '', '')
"""


def sale(books: Books, deal_id: str, *, minutes: int = -30, site: str = SITE, goal: str = "sale") -> None:
    """Record one conversion that occurred so many minutes after the moment."""
    at = NOW + timedelta(minutes=minutes)
    told = tell(deal_id=deal_id, goal=goal, value=Decimal("5000.50"), occurred_at=at, session_id="s-1")
    books.tell(told, site)


def shown(books: Books, deal_id: str, crm: str, site: str = SITE) -> None:
    """Let a CRM have shown a deal."""
    books.sql.execute(SHOWN, [site, crm, deal_id])


def of_deals(books: Books, *deal_ids: str) -> list[OurConversion]:
    """Return the conversions of deals."""
    return books.run(lambda conn: conversions_of_deals(conn, SITE, deal_ids))


def of_period(books: Books, *goals: str) -> list[str]:
    """Return the deals of the conversions of the hour before the moment."""
    found = books.run(lambda conn: conversions_of_period(conn, OF, goals or ["sale"], DAY))
    return [one.deal_id for one in found]


def test_conversion_is_read_with_what_a_comparison_needs(any_books: Books) -> None:
    """Exact money, the moment, and what it was looked for by."""
    sale(any_books, "7")

    assert of_deals(any_books, "7", "8") == [
        OurConversion(
            deal_id="7",
            goal="sale",
            value=Decimal("5000.50"),
            currency="RUB",
            occurred_at=NOW - timedelta(minutes=30),
            is_matched=False,
            session_id="s-1",
            ym_uid=None,
            has_others=False,
        )
    ]


def test_matched_conversion_says_so(books: Books) -> None:
    """Only the others are asked why."""
    books.add_session("s-1")

    sale(books, "7")

    assert [one.is_matched for one in of_deals(books, "7")] == [True]


def test_further_identifiers_are_known_by_their_presence(books: Books) -> None:
    """The reason for a missing session names them; their values are nobody's business."""
    books.tell(tell(deal_id="1", click_ids={"yclid": "17"}))
    books.tell(tell(deal_id="2", identifiers=[("phone", "hash")], ym_uid="17"))

    assert [(one.deal_id, one.ym_uid, one.has_others) for one in of_deals(books, "1", "2")] == [
        ("1", None, True),
        ("2", "17", True),
    ]


def test_what_does_not_count_is_not_compared(books: Books) -> None:
    """Cancelled, of another site, or of no deal at all."""
    for deal_id in ("1", "2"):
        sale(books, deal_id)
    sale(books, "3", site="other")
    books.tell(tell(event_id="e-1", deal_id=None, occurred_at=NOW - timedelta(minutes=30)))
    books.sql.execute("update closedloop.conversion set cancelled_at = now() where deal_id = '2'")

    assert [one.deal_id for one in of_deals(books, "1", "2", "3")] == ["1"]
    assert of_period(books) == ["1"]


def test_period_ends_before_its_end(books: Books) -> None:
    """A deal of midnight belongs to one day and not to two."""
    for minutes in (-61, -60, -1, 0):
        sale(books, f"at {minutes}", minutes=minutes)

    assert of_period(books) == ["at -1", "at -60"]


def test_goals_that_no_deal_can_ask_for_are_left_out(books: Books) -> None:
    """A robot's own goals are not in the CRM to be compared with."""
    sale(books, "1")
    sale(books, "1", goal="prepaid")

    assert of_period(books) == ["1"]
    assert of_period(books, "prepaid", "sale") == ["1", "1"]


def test_deals_of_another_crm_are_not_missed_here(books: Books) -> None:
    """A shop that moves from one CRM to another has both for a while."""
    for deal_id in ("both", "here", "nobody", "there"):
        sale(books, deal_id)
    for deal_id, crm in (("both", "amocrm"), ("both", "bitrix24"), ("here", "bitrix24"), ("there", "amocrm")):
        shown(books, deal_id, crm)
    shown(books, "nobody", "amocrm", site="other")

    assert of_period(books) == ["both", "here", "nobody"]
