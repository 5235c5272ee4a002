"""Every authentic webhook is kept as it came: it is what a lost conversion is counted again from."""

import psycopg
import pytest

from closedloop.store.inbox import KeptWebhook, inbox_json, keep_refused
from fix_ledger import NOW, SITE, Books, new_id, tell

BYTES = bytes(range(256))
ALL = """select site, source, received_at, method, query, content_type, user_agent, body, outcome, reason
           from closedloop.webhook order by webhook_id"""


def webhook(body: bytes = BYTES, query: bytes = b"") -> KeptWebhook:
    """Return one request as the edge hands it over."""
    return KeptWebhook(
        webhook_id=new_id(),
        source="hook",
        received_at=NOW,
        method="POST",
        query=query,
        content_type="application/json; charset=utf-8",
        user_agent='Bitrix24 "Робот"',
        body=body,
    )


def row(outcome: str, reason: str | None = None, query: bytes = b"") -> tuple[object, ...]:
    """Return the row that `webhook` has to become."""
    kind = "application/json; charset=utf-8"
    return (SITE, "hook", NOW, "POST", query, kind, 'Bitrix24 "Робот"', BYTES, outcome, reason)


def test_accepted_webhook_is_kept_byte_for_byte(any_books: Books) -> None:
    """What is sealed opens only if every byte of it is there."""
    any_books.append(tell(), webhooks=[webhook(query=b"\x00\xff"), webhook()])

    assert any_books.rows(ALL) == [row("accepted", query=b"\x00\xff"), row("accepted")]


def test_webhook_without_a_conversion_is_kept(books: Books) -> None:
    """A repetition brings nothing new, and its webhook is what the journal points to."""
    books.append(webhooks=[webhook()])

    assert books.rows(ALL) == [row("accepted")]


def test_webhook_recorded_twice_is_kept_once(books: Books) -> None:
    """After a lost answer the whole batch comes again, and nothing of it may fail."""
    one = webhook()
    books.append(webhooks=[one])

    books.append(tell(), webhooks=[one, webhook()])

    assert len(books.rows(ALL)) == 2


def test_same_webhook_of_two_sites_is_two(books: Books) -> None:
    """The inbox of one owner is not the other's."""
    one = webhook()

    for site in (SITE, "other"):
        books.append(webhooks=[one], site=site)

    assert sorted(kept[0] for kept in books.rows(ALL)) == [SITE, "other"]


def test_refused_webhook_is_kept_with_its_reason(books: Books) -> None:
    """The owner sees why a deal is missing, in the sentence that the CRM was told."""
    reason = "goal_value is not a finite number: 'много'"

    books.run(lambda conn: keep_refused(conn, SITE, webhook(), reason))

    assert books.rows(ALL) == [row("refused", reason)]


def test_refused_webhook_is_refused_a_second_time(books: Books) -> None:
    """Its number is made for it alone; two equal ones are a mistake of ours that must be heard."""
    one = webhook()
    books.run(lambda conn: keep_refused(conn, SITE, one, "first"))

    with pytest.raises(psycopg.errors.UniqueViolation):
        books.run(lambda conn: keep_refused(conn, SITE, one, "second"))


def test_rows_are_json_whatever_bytes_they_hold() -> None:
    """One JSON text carries the batch; raw bytes in it would break the conversions beside them."""
    text = inbox_json([webhook()])

    assert text.isprintable()
    assert '"body":"AAECAwQF' in text
    assert inbox_json([]) == "[]"
