"""What every fake can do between a client and itself: faults on order, a log, going down and up again."""

import threading
from collections.abc import Iterator

import httpx
import pytest

from fix_tools import wait_until
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24
from platforms.http import DROPPED, Platform


@pytest.fixture(params=[Bitrix24, AmoCrm], ids=["bitrix24", "amocrm"])
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """Give each of the fakes."""
    make: type[Platform] = request.param
    with make() as made:
        yield made


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """Give a client that finds one lead and may change it."""
    if isinstance(platform, Bitrix24):
        platform.create_lead(id=1)
        base, headers = platform.webhook_url, {"Accept": "application/json"}
    else:
        assert isinstance(platform, AmoCrm)
        platform.create_lead(id=1)
        base, headers = f"{platform.url}/api/v4/", {"Authorization": f"Bearer {platform.tokens.long_lived}"}
    with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=10) as made:
        yield made


def read(client: httpx.Client, platform: Platform, kind: str = "lead") -> httpx.Response:
    """Read the leads, or the contacts."""
    return client.get(f"crm.{kind}.list" if isinstance(platform, Bitrix24) else f"{kind}s")


def rename(client: httpx.Client, platform: Platform, wait_s: float = 10) -> httpx.Response:
    """Change the lead."""
    if isinstance(platform, Bitrix24):
        told = {"id": 1, "fields": {"TITLE": "new"}}
        return client.post("crm.lead.update", json=told, timeout=wait_s)
    return client.patch("leads/1", json={"name": "new"}, timeout=wait_s)


def name_of(platform: Platform) -> str:
    """Return what the lead is called."""
    if isinstance(platform, Bitrix24):
        return platform.crm.items[1][1].title
    assert isinstance(platform, AmoCrm)
    return platform.lead(1).name


def test_call_is_logged_with_what_was_asked(platform: Platform, client: httpx.Client) -> None:
    """Tests assert how often and what a client asked, not what it believes to have asked."""
    read(client, platform)
    read(client, platform)

    first, second = platform.calls

    assert (first.method, first.status) == ("GET", 200)
    assert "lead" in first.path
    assert first.at <= second.at
    assert platform.calls_of("nothing of the kind") == []


def test_slow_answer_comes_after_the_work(platform: Platform, client: httpx.Client) -> None:
    """A client that gives up early must reckon with a change that was made all the same."""
    platform.faults.slow(30)

    with pytest.raises(httpx.ReadTimeout):
        rename(client, platform, 0.1)

    assert name_of(platform) == "new"


@pytest.mark.parametrize("done", [True, False])
def test_held_answer_waits_for_its_gate(platform: Platform, client: httpx.Client, *, done: bool) -> None:
    """A test can do something exactly while a call is under way."""
    gate = platform.faults.hold(done=done)
    thread = threading.Thread(target=rename, args=(client, platform))
    thread.start()
    gate.wait_reached()
    meanwhile = name_of(platform)

    gate.open()
    thread.join()

    assert (meanwhile == "new") == done
    assert name_of(platform) == "new"
    assert [call.status for call in platform.calls] == [200]


@pytest.mark.parametrize("done", [True, False])
def test_dropped_call_was_done_or_not(platform: Platform, client: httpx.Client, *, done: bool) -> None:
    """No client can tell the two apart, so it must be right in both."""
    platform.faults.drop(done=done)

    with pytest.raises(httpx.RemoteProtocolError):
        rename(client, platform)

    assert (name_of(platform) == "new") == done
    assert [call.status for call in platform.calls] == [DROPPED]
    assert read(client, platform).status_code == 200


@pytest.mark.parametrize("status", [500, 502])
def test_wrong_answer_meets_the_calls_that_it_is_for(
    platform: Platform, client: httpx.Client, status: int
) -> None:
    """A page of the server before the CRM is not JSON, and is gone the next time."""
    platform.faults.answer(status, part="lead", times=2)

    answers = [read(client, platform) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["content-type"] == "text/html"


def test_fault_for_other_calls_meets_none(platform: Platform, client: httpx.Client) -> None:
    """A test can break one of several calls that belong together."""
    platform.faults.answer(500, part="contact", times=None)

    before = [read(client, platform).status_code, read(client, platform, "contact").status_code]
    platform.faults.clear()
    after = read(client, platform, "contact").status_code

    assert before == [200, 500]
    assert after < 300


def test_platform_is_the_same_after_it_was_down(platform: Platform, client: httpx.Client) -> None:
    """Its address is configured, so it comes back on the same port and with its data."""
    read(client, platform)
    platform.go_down()

    with pytest.raises(httpx.ConnectError):
        read(client, platform)

    platform.come_up()

    assert read(client, platform).status_code == 200


def test_going_down_cuts_calls_under_way(platform: Platform, client: httpx.Client) -> None:
    """A client must notice at once, not after its time is up."""
    gate = platform.faults.hold()
    errors: list[Exception] = []

    def call() -> None:
        try:
            read(client, platform)
        except httpx.TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    gate.wait_reached()

    platform.go_down()

    wait_until(lambda: bool(errors), what="the client's error", wait_s=5)
    thread.join()


def test_connection_stays_open_between_calls(platform: Platform, client: httpx.Client) -> None:
    """Clients that keep a pool are tested with one."""
    read(client, platform)
    (before,) = platform.connections

    read(client, platform)

    assert platform.connections == {before}


def test_mistake_in_a_fake_is_not_taken_for_a_fault() -> None:
    """A client that copes with dropped calls would hide it."""
    portal = Bitrix24()
    portal.create_deal(stage_id="NEW")
    portal.deal(1).created = -(10**12)

    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{portal.webhook_url}crm.deal.get?id=1", trust_env=False)

    with pytest.raises(BaseExceptionGroup, match="Bitrix24 is broken"):
        portal.close()
