"""Whatever a webhook of a CRM has become on its way, it is answered, never by a 5xx, and worked on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fix_flow import Tables
from fix_server import KEY, Server
from fix_tools import REPOSITORY, wait_until

RECORDED = REPOSITORY / "tests" / "recorded"
SOURCES = {"bitrix24": "bitrix24", "amocrm": "amocrm"}
SEED = 20261124
ANSWERS = {200, 400, 403, 413}


class Recording:
    """One recorded request: query, content type and body."""

    def __init__(self, file: Path) -> None:
        head, _, self.body = file.read_bytes().partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.query = first.split(" ")[1].partition("?")[2]
        kind = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("content-type:")]
        self.content_type = kind[0] if kind else ""


def recordings(crm: str) -> list[Recording]:
    """Return every recorded webhook of a CRM."""
    return [Recording(file) for file in sorted((RECORDED / crm).glob("*.http"))]


@st.composite
def mutated(draw: st.DrawFn, crm: str) -> Recording:
    """Return a recording with pieces cut out, doubled, exchanged or made other bytes."""
    one = draw(st.sampled_from(recordings(crm)))
    parts = one.body.split(b"&")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(parts) - 1))
        match draw(st.sampled_from(["cut", "double", "swap", "bytes", "value"])):
            case "cut" if len(parts) > 1:
                del parts[at]
            case "double":
                parts.insert(at, parts[at])
            case "swap":
                other = draw(st.integers(0, len(parts) - 1))
                parts[at], parts[other] = parts[other], parts[at]
            case "bytes":
                parts[at] = parts[at][: draw(st.integers(0, len(parts[at])))] + draw(st.binary(max_size=6))
            case _:
                name = parts[at].partition(b"=")[0]
                values = [b"", b"undefined", b"-1", b"1e9", b"%00", b"%FF", b"9" * 40, b"[object Object]"]
                parts[at] = name + b"=" + draw(st.sampled_from(values))
    one.body = b"&".join(parts)
    return one


@pytest.fixture(scope="module")
def client() -> Iterator[requests.Session]:
    """Give one connection for all examples."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("crm", SOURCES)
def test_mutated_webhooks_are_answered_and_worked_on(
    hook: Server, shared: Tables, client: requests.Session, crm: str
) -> None:
    """A CRM that gets a hundred 5xx switches the webhook off."""
    statuses: set[int] = set()

    @settings(
        max_examples=250,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @seed(SEED)
    @given(one=mutated(crm))
    def holds(one: Recording) -> None:
        query = re.sub(r"key=[^&]*", "", one.query)
        url = f"{hook.url}/webhooks/default/{crm}?key={KEY}&{query}"
        answer = client.post(url, data=one.body, headers={"Content-Type": one.content_type}, timeout=10)
        statuses.add(answer.status_code)
        assert answer.status_code in ANSWERS, answer.text

    holds()

    assert 200 in statuses
    waiting = "select count(*) from closedloop.webhook where outcome = 'waiting'"
    wait_until(lambda: not shared.one(waiting), what="all are worked on")
    ours = "select count(*) from closedloop.webhook where starts_with(reason, 'an error of ours')"
    assert shared.one(ours) == 0
