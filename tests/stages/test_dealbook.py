"""The ledger follows the latest word of the CRM about a deal, and says what was found where."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from closedloop.domain.deal import Deal, Finding
from closedloop.domain.goals import Goal
from closedloop.errors import DatabaseRefusedError
from closedloop.store.erase import Person, erase, find_person
from closedloop.store.journal import Occasion
from closedloop.store.sessions import read_session_table_now
from closedloop.store.settle import Settled
from fix_deals import WON, InWorld, World, deal, found
from fix_flow import Tables

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

READ = WON + timedelta(minutes=1)


async def take(world: World, one: Deal, minutes: int = 0, *, is_read: bool = True) -> list[Settled]:
    """Take one word about a deal, told so many minutes after the winning."""
    because = Occasion(received_at=READ + timedelta(minutes=minutes))
    return await world.book.take(one, because, is_read=is_read)


def kinds(settled: list[Settled]) -> list[str]:
    """Return what became of each goal."""
    return [one.kind for one in settled]


def journal(tables: Tables) -> list[tuple[str, dict[str, Any]]]:
    """Return kinds and details of all entries."""
    query = "select kind, detail from closedloop.journal order by entry"
    return [(row[0], row[1]) for row in tables.conn.execute(query).fetchall()]


def test_deal_finds_its_session_and_says_where_it_stood(in_world: InWorld, tables: Tables) -> None:
    """A phone is named by its place only: the journal is shown."""
    tables.add_session("s-1")
    findings = (
        found("session_id", "s-1", "lead 365, comment"),
        found("phone", "+79001234567", "contact 84, PHONE"),
    )

    settled = in_world(lambda world: take(world, deal(findings=findings)))

    assert kinds(settled) == ["new"]
    assert [goal["value"] for goal in tables.goals("s-1")] == [5000]
    assert journal(tables) == [
        ("matched", {}),
        ("found", {"session_id": "s-1 (lead 365, comment)", "phone": "contact 84, PHONE"}),
    ]
    assert "9001234567" not in str(tables.conn.execute("select * from closedloop.deal").fetchall())


def test_deal_is_found_by_each_of_its_identifiers(in_world: InWorld, tables: Tables) -> None:
    """Two phones of a contact are two ways to know a visitor."""
    tables.add_session("s-1", ym_uid="1712345678901234567", gclid="g-1")

    async def live(world: World) -> None:
        told = [found("phone", "+79000000001"), found("phone", "+79000000002"), found("ym_uid", "no digits")]
        await take(world, deal(findings=(*told, found("ym_uid", "1712345678901234567"))))

    in_world(live)

    assert tables.one("select rule from closedloop.conversion") == "ym_uid"
    phones = "select count(*) from closedloop.identity where kind = 'phone'"
    assert tables.one(phones) == 2


def test_of_several_session_ids_the_one_that_leads_somewhere_counts(
    in_world: InWorld, tables: Tables
) -> None:
    """A field with another tool's id stands before ours."""
    tables.add_session("s-ours")
    findings = (found("session_id", "s-theirs"), found("session_id", "s-ours", "deal 662, comment"))

    in_world(lambda world: take(world, deal(findings=findings)))

    assert len(tables.goals("s-ours")) == 1


def test_second_look_at_an_unchanged_deal_writes_nothing_new(in_world: InWorld, tables: Tables) -> None:
    """Sweeps read the same deals every five minutes."""

    async def live(world: World) -> list[str]:
        return kinds(
            [*await take(world, deal()), *await take(world, deal(), 5), *await take(world, deal(), 10)]
        )

    assert in_world(live) == ["new"]
    assert len(journal(tables)) == 2


def test_older_word_changes_nothing(in_world: InWorld, tables: Tables) -> None:
    """Webhooks overtake each other; the CRM's own clock decides, then ours."""
    later = deal(value=Decimal(4000), changed_at=WON + timedelta(minutes=9))

    async def live(world: World) -> None:
        await take(world, later)
        await take(world, deal(), 1)
        await take(world, deal(changed_at=later.changed_at), -1)

    in_world(live)

    assert tables.one("select value from closedloop.conversion") == 4000


def test_first_answer_of_the_crm_counts_more_than_a_webhooks_clock(in_world: InWorld, tables: Tables) -> None:
    """The Digital Pipeline tells no moment: ours stands in, and is later than the change."""

    async def live(world: World) -> None:
        await take(world, deal(value=None, changed_at=WON + timedelta(seconds=9)), is_read=False)
        await take(world, deal(), 1)

    in_world(live)

    assert tables.one("select value from closedloop.conversion") == 5000


def test_part_of_a_deal_takes_nothing_from_what_is_known(in_world: InWorld, tables: Tables) -> None:
    """A webhook of a stage tells neither the sum nor the session."""
    tables.add_session("s-1")

    async def live(world: World) -> None:
        opened = deal(outcome="open", stage="NEW", closed_at=None, findings=(found("session_id", "s-1"),))
        await take(world, opened, is_read=False)
        await take(world, deal(value=None, changed_at=WON + timedelta(hours=1)), 60, is_read=False)

    in_world(live)

    assert len(tables.goals("s-1")) == 1


def test_hint_of_a_robot_outlives_the_next_answer(in_world: InWorld, tables: Tables) -> None:
    """The robot knew the session before the deal was won; the CRM does not."""
    tables.add_session("s-1")

    async def live(world: World) -> None:
        hinted = deal(
            outcome="open", stage="NEW", findings=(found("session_id", "s-1", "robot, session_id"),)
        )
        await take(world, hinted)
        await take(world, deal(changed_at=WON + timedelta(hours=1)), 60)

    in_world(live)

    assert len(tables.goals("s-1")) == 1


def test_goal_that_only_a_webhook_told_is_not_cancelled_by_the_crm(in_world: InWorld, tables: Tables) -> None:
    """The owner's robot says `payment_success` at a stage of its own; the deal itself is open."""
    told = b"""
        insert into closedloop.conversion (
               site, conversion_id, dedup_key, dedup_rule, goal, deal_id, value, currency, occurred_at,
               received_at, told_at, state)
        values ('default', gen_random_uuid(), %s, 'deal', 'payment_success', '662', 5, 'RUB', now(), now(),
                now(), 'unmatched')
    """

    async def live(world: World) -> list[str]:
        tables.conn.execute(told, [world.book.key(deal(), "payment_success").key])
        return kinds(await take(world, deal(outcome="open", stage="NEW")))

    assert in_world(live) == []
    assert tables.one("select cancelled_at is null from closedloop.conversion")


def test_deleted_deal_loses_every_goal_and_comes_back_only_by_a_change(
    in_world: InWorld, tables: Tables
) -> None:
    """The retry of an old webhook is an echo."""
    goals = (Goal(on="won", goal="sale"), Goal(on="created", goal="lead", value="10"))

    async def live(world: World) -> list[list[str]]:
        await take(world, deal(), is_read=False)
        gone = await world.book.take_gone("662", Occasion(received_at=READ + timedelta(minutes=5)))
        again = await world.book.take_gone("662", Occasion(received_at=READ + timedelta(minutes=6)))
        echo = await take(world, deal(), 7, is_read=False)
        restored = await take(world, deal(changed_at=WON + timedelta(hours=1)), 60, is_read=False)
        return [sorted(kinds(one)) for one in (gone, again, echo, restored)]

    assert in_world(live, goals=goals) == [
        ["cancelled", "cancelled"],
        [],
        [],
        ["reinstated", "reinstated"],
    ]
    assert tables.one("select count(*) from closedloop.conversion where cancelled_at is null") == 2


def test_value_that_is_not_there_is_told_beside_the_conversion(in_world: InWorld, tables: Tables) -> None:
    """Zero without a word would look like a sale for nothing."""
    goals = (Goal(on="won", goal="sale", value="field:Margin"),)

    in_world(lambda world: take(world, deal()), goals=goals)

    assert journal(tables)[-1] == ("worthless", {"problem": "the deal has nothing in the field Margin"})


def test_deal_that_the_database_refuses_is_no_others_trouble(in_world: InWorld, tables: Tables) -> None:
    """One poisoned row must not hold up a page of fifty."""
    tables.conn.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no' using errcode = 'check_violation'; end $$"
    )
    tables.conn.execute(
        "create trigger refuse before insert on closedloop.conversion"
        " for each row when (new.deal_id = '2') execute function refuse()"
    )
    deals = [deal(deal_id=str(number)) for number in range(1, 4)]

    async def live(world: World) -> None:
        with pytest.raises(DatabaseRefusedError):
            await world.book.take_many(deals, Occasion(received_at=READ))

    in_world(live)

    assert tables.deals() == ["1", "3"]


def test_two_words_about_one_new_deal_at_once_make_one_conversion(in_world: InWorld, tables: Tables) -> None:
    """Webhook and sweep see it for the first time together."""

    async def live(world: World) -> list[list[Settled]]:
        return await asyncio.gather(*(take(world, deal(), minutes) for minutes in range(8)))

    settled = in_world(live)

    assert sorted(kind for one in settled for kind in kinds(one)).count("new") == 1
    assert tables.deals() == ["662"]


def test_erased_person_leaves_no_copy_of_the_deal(in_world: InWorld, tables: Tables) -> None:
    """Also where the deal is still open, and nothing but its contact leads to the person."""
    phone = Finding(kind="phone", value="+79001234567", place="contact 84, PHONE")
    opened = deal(outcome="open", stage="NEW", findings=(phone,))

    async def live(world: World) -> list[str]:
        await take(world, opened)
        person = Person(hashes=(world.book.sealer.hash("default", "phone", phone.value),))
        table = read_session_table_now(tables.conn)
        found_person = find_person(tables.conn, table, "default", person)
        erase(tables.conn, table, "default", person, found_person, READ)
        left = tables.conn.execute("select sealed, findings from closedloop.deal").fetchall()
        assert left == [(b"", [])]
        return kinds(await take(world, deal(changed_at=WON + timedelta(hours=1)), 60))

    assert in_world(live) == ["new"]


def test_erased_deal_can_be_told_again(in_world: InWorld, tables: Tables) -> None:
    """Erasing leaves the row without what it said."""

    async def live(world: World) -> list[str]:
        await take(world, deal(findings=(Finding(kind="phone", value="+79001234567", place="contact 84"),)))
        tables.conn.execute("update closedloop.deal set sealed = '', findings = '[]'")
        return kinds(await take(world, deal(value=Decimal(1), changed_at=WON + timedelta(hours=1)), 60))

    assert in_world(live) == ["revised"]
