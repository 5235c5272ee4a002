"""Both doors against the fake Metrica over real HTTP: a sale arrives once, whatever happens on the way."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from closedloop.deliver.destinations.metrica_conversions import (
    MetricaConversions,
    MetricaConversionsSettings,
)
from closedloop.deliver.destinations.metrica_orders import MetricaOrders, MetricaOrdersSettings
from closedloop.domain.delivery import Outcome, Sale, Verdict
from fix_destinations import send
from fix_metrica import YCLID, YM_UID, Driver, sale
from platforms.metrica import Metrica
from platforms.metrica_data import Counter, Visit
from platforms.metrica_orders import CREATED, PAID

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def counter(metrica: Metrica) -> Counter:
    """Give a counter with two goals, asked as fast as a test likes."""
    metrica.window.watch.speed = 1e6
    return metrica.add_counter("deal_paid", "good_lead")


@pytest.fixture
def visit(metrica: Metrica, counter: Counter) -> Visit:
    """Give the visit of two hours ago that came from an advertisement."""
    contacts: dict[str, Any] = {"emails": ("anna@shop.example",), "phones": ("79001234567",)}
    return metrica.add_visit(
        counter, YM_UID, 2 * HOUR, yclid=YCLID, user_id="visitor-1", purchase_id="p1", **contacts
    )


def make_orders(metrica: Metrica, counter: Counter, **more: Any) -> Driver:  # noqa: ANN401
    """Return the driver of orders."""
    settings = MetricaOrdersSettings(
        counter=str(counter.id),
        token=metrica.issue(),
        base_url=metrica.url,
        private_address=True,
        goals={"qualified": "good_lead", "contract": "no_such_goal"},
    )
    return Driver(metrica, MetricaOrders(), msgspec.structs.replace(settings, **more))


def make_conversions(metrica: Metrica, counter: Counter, **more: Any) -> Driver:  # noqa: ANN401
    """Return the driver of offline conversions."""
    settings = MetricaConversionsSettings(
        counter=str(counter.id),
        token=metrica.issue(),
        base_url=metrica.url,
        private_address=True,
        goals={"payment_success": "deal_paid"},
        user_id=True,
    )
    return Driver(metrica, MetricaConversions(), msgspec.structs.replace(settings, **more))


@pytest.fixture
def orders(metrica: Metrica, counter: Counter) -> Driver:
    """Give the driver of orders."""
    return make_orders(metrica, counter)


@pytest.fixture
def conversions(metrica: Metrica, counter: Counter) -> Driver:
    """Give the driver of offline conversions."""
    return make_conversions(metrica, counter)


def paid(metrica: Metrica, **more: Any) -> Sale:  # noqa: ANN401 - any field
    """Return a sale of an hour ago by the fake's clock."""
    return sale(**{"occurred_at": metrica.clock.now - HOUR, **more})


def outcomes(verdicts: Sequence[Verdict]) -> list[Outcome]:
    """Return what the verdicts come to."""
    return [one.outcome for one in verdicts]


def test_order_goes_its_way(metrica: Metrica, counter: Counter, visit: Visit, orders: Driver) -> None:
    """Created on the first day, paid on the hundredth, changed and taken back: one order, one moment."""
    created = paid(metrica, goal="deal_created")
    states = [outcomes(orders.deliver(created))]
    metrica.pass_time(100 * DAY)
    later = {"occurred_at": metrica.clock.now, "revision": 2}

    states += [outcomes(orders.deliver(paid(metrica)))]
    states += [outcomes(orders.deliver(paid(metrica, value=Decimal(7000), **later)))]
    worth = metrica.order(counter, "662").revenue
    states += [outcomes(orders.deliver(paid(metrica, is_cancelled=True, **later)))]

    order = metrica.order(counter, "662")
    assert states == [[Outcome.CONFIRMED]] * 4
    assert (worth, order.status, order.revenue) == (Decimal(7000), "CANCELLED", Decimal(0))
    assert order.created == created.occurred_at
    assert visit.goals[:2] == [CREATED, PAID]


def test_order_that_was_paid_stays_paid(metrica: Metrica, counter: Counter, orders: Driver) -> None:
    """News of a step on the way come late and must not undo the payment."""
    orders.deliver(paid(metrica))

    late = [orders.compile(paid(metrica, goal=goal)) for goal in ("deal_created", "qualified")]

    assert late == ["the order stands further already, at payment_success"] * 2
    assert metrica.order(counter, "662").status == "PAID"


def test_order_is_linked_by_contacts_alone(metrica: Metrica, visit: Visit, orders: Driver) -> None:
    """Hashed here and hashed there, by two programs."""
    by_mail = paid(metrica, ids={}, emails=("anna@shop.example",), deal_id="1")
    by_phone = paid(metrica, ids={}, phones=("+79001234567",), deal_id="2")

    orders.deliver(by_mail, by_phone)

    assert sorted(one.order for one in visit.reached if one.goal == PAID) == ["1", "2"]


@pytest.mark.parametrize("days", [20, 21])
def test_order_is_linked_as_long_as_it_is_sent(
    metrica: Metrica, visit: Visit, orders: Driver, days: int
) -> None:
    """What the terms call too late would be sent for nothing; what they allow must arrive."""
    late = paid(metrica, visited_at=visit.start)
    metrica.pass_time(days * DAY - 6 * HOUR if days == 20 else days * DAY - 4 * HOUR)

    compiled = orders.compile(late)

    assert (compiled == "too late") == (days == 21)
    if isinstance(compiled, Sale):
        assert outcomes(orders.deliver(late)) == [Outcome.CONFIRMED]
        assert visit.goals == [CREATED, PAID]


def test_order_whose_answer_was_lost_goes_again(
    metrica: Metrica, counter: Counter, visit: Visit, orders: Driver
) -> None:
    """It is the same order, so that nothing counts twice."""
    metrica.faults.drop("simple_orders", done=True)

    verdicts = orders.deliver(paid(metrica))

    assert outcomes(verdicts) == [Outcome.CONFIRMED]
    assert (len(metrica.orders.of(counter)), visit.goals) == (1, [CREATED, PAID])
    assert len(metrica.orders.uploads) == 2


def test_bad_row_does_not_hold_the_others(metrica: Metrica, counter: Counter, orders: Driver) -> None:
    """The file is halved until the row whose goal is not there is alone."""
    good = [paid(metrica, deal_id=str(number)) for number in range(5)]
    bad = paid(metrica, deal_id="bad", goal="contract")

    verdicts = orders.deliver(*good, bad)

    assert outcomes(verdicts) == [*[Outcome.CONFIRMED] * 5, Outcome.REJECT_RECORD]
    assert sorted(metrica.orders.of(counter)) == ["0", "1", "2", "3", "4"]


def test_night_is_dated_in_the_zone_of_the_counter(metrica: Metrica) -> None:
    """In Vladivostok it is tomorrow already."""
    counter = metrica.add_counter(zone="Asia/Vladivostok")
    orders = make_orders(metrica, counter, timezone="Asia/Vladivostok")

    one = paid(metrica)

    orders.deliver(one)

    assert metrica.order(counter, "662").created == one.occurred_at


@pytest.mark.parametrize(
    ("known", "door"),
    [
        ({"ym_uid": YM_UID, "yclid": YCLID}, "Yclid"),
        ({"ym_uid": YM_UID}, "ClientId"),
        ({"user_id": "visitor-1"}, "UserId"),
        ({"purchase_id": "p1"}, "PurchaseId"),
    ],
)
def test_conversion_is_linked_by_every_door(
    metrica: Metrica, visit: Visit, conversions: Driver, known: dict[str, str], door: str
) -> None:
    """Each id in its own column."""
    one = paid(metrica, ids=known)
    compiled = conversions.compile(one)

    (verdict,) = conversions.deliver(one)

    assert isinstance(compiled, Sale)
    assert compiled.door == door
    assert (verdict.outcome, "1 linked to visits" in verdict.reason) == (Outcome.CONFIRMED, True)
    assert [(one.goal, one.price, one.currency) for one in visit.reached] == [
        ("deal_paid", Decimal(5000), "RUB")
    ]


def test_conversion_cannot_be_told_again(metrica: Metrica, visit: Visit, conversions: Driver) -> None:
    """The second row would be a second sale."""
    conversions.deliver(paid(metrica))

    again = conversions.compile(paid(metrica, value=Decimal(7000), revision=2))

    assert (
        again == "Metrica cannot be told a change of an offline conversion: it keeps what it was told first"
    )
    assert visit.goals == ["deal_paid"]


def test_conversion_of_an_unknown_visitor_is_not_matched(metrica: Metrica, conversions: Driver) -> None:
    """It is no error, and shows in the rate of matches."""
    (verdict,) = conversions.deliver(paid(metrica))

    assert (verdict.outcome, "LINKAGE_FAILURE" in verdict.reason) == (Outcome.NOT_MATCHED, True)


def test_conversion_of_a_clock_that_is_fast_is_taken(
    metrica: Metrica, visit: Visit, conversions: Driver
) -> None:
    """A CRM whose clock is an hour ahead would lose every sale, and nobody could say which."""
    (verdict,) = conversions.deliver(paid(metrica, occurred_at=metrica.clock.now + HOUR))

    assert verdict.outcome is Outcome.CONFIRMED
    assert visit.goals == ["deal_paid"]


TROUBLES = st.sampled_from(["dropped", "lost", "timed out", "503", "200", "502", "429"])


def order_trouble(metrica: Metrica, trouble: str, part: str) -> None:
    """Let the next call of a kind go wrong."""
    match trouble:
        case "dropped" | "lost":
            metrica.faults.drop(part, done=trouble == "lost")
        case "timed out":
            metrica.time_out(part)
        case _:
            metrica.faults.answer(int(trouble), part)


@pytest.fixture(scope="module")
def shared() -> Iterator[Metrica]:
    """Give one Metrica for many examples, each with a counter of its own."""
    with Metrica() as made:
        made.window.watch.speed = 1e6
        yield made


@limits(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(TROUBLES.filter(lambda one: one not in {"502", "200"}), max_size=3),
    st.lists(TROUBLES.filter(lambda one: one != "timed out"), max_size=3),
)
def test_conversion_counts_once_whatever_happens(
    shared: Metrica, sending: list[str], asking: list[str]
) -> None:
    """The promise: never twice, since nobody can take it back, and never lost."""
    counter = shared.add_counter("deal_paid")
    visit = shared.add_visit(counter, YM_UID, 2 * HOUR)
    for part, troubles in (("/upload?", sending), ("/uploading", asking)):
        for trouble in troubles:
            order_trouble(shared, trouble, part)

    (verdict,) = make_conversions(shared, counter).deliver(paid(shared))
    shared.faults.clear()

    assert (verdict.outcome, visit.goals) == (Outcome.CONFIRMED, ["deal_paid"])


@limits(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TROUBLES, max_size=4), st.lists(TROUBLES, max_size=3))
def test_order_counts_once_whatever_happens(shared: Metrica, sending: list[str], asking: list[str]) -> None:
    """However often it goes, it is one order."""
    counter = shared.add_counter()
    visit = shared.add_visit(counter, YM_UID, 2 * HOUR)
    for part, troubles in (("/simple_orders", sending), ("/last_uploadings", asking)):
        for trouble in troubles:
            order_trouble(shared, trouble, part)

    (verdict,) = make_orders(shared, counter).deliver(paid(shared))
    shared.faults.clear()

    assert (verdict.outcome, visit.goals) == (Outcome.CONFIRMED, [CREATED, PAID])
    assert len(shared.orders.of(counter)) == 1


@pytest.mark.parametrize("make", [make_orders, make_conversions])
def test_what_a_person_has_to_do_is_told(metrica: Metrica, counter: Counter, make: Any) -> None:  # noqa: ANN401
    """The three meanings of one status, at a sale and at the check of settings."""
    driver: Driver = make(metrica, counter)

    def look() -> list[Outcome]:
        """Return what a sale and the check come to."""
        request = driver.destination.check(driver.settings, metrica.clock.now)
        assert request is not None
        judged = driver.destination.judge(send(request), driver.settings)
        return [*outcomes(driver.deliver(paid(metrica, deal_id=f"{metrica.clock.unix}"))), judged.outcome]

    counter.rights.clear()
    denied = look()
    counter.is_in_connect = True
    organisation = look()
    metrica.expire(driver.settings.token)

    assert denied == organisation == [Outcome.CONFIG_BLOCKED, Outcome.CONFIG_BLOCKED]
    assert look() == [Outcome.REAUTH, Outcome.AUTH_BLOCKED]


def test_check_reads_goals_and_zone_of_the_counter(metrica: Metrica, counter: Counter) -> None:
    """Before the first sale, since nothing complains afterwards."""
    found: list[str] = []
    for driver in (
        make_orders(metrica, counter),
        make_orders(metrica, counter, goals={}, timezone="Asia/Omsk"),
        make_orders(metrica, counter, goals={}),
        make_conversions(metrica, counter, goals={"payment_success": "deal_paid"}),
    ):
        request = driver.destination.check(driver.settings, metrica.clock.now)
        assert request is not None
        found.append(driver.destination.judge(send(request), driver.settings).reason)

    assert "no_such_goal" in found[0]
    assert "the settings say Asia/Omsk" in found[1]
    assert found[2:] == ["the counter Shop answers"] * 2
