"""Programs are told from people by what they say of themselves."""

import pytest

from closedloop.edge.http.bots import bot_of

ENGINE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
PEOPLE = [
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {ENGINE} Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {ENGINE} Chrome/140.0.0.0 YaBrowser/25.8.0.0 Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 14; K) {ENGINE} Chrome/140.0.0.0 Mobile Safari/537.36",
]
ROBOTS = [
    "Mozilla/5.0 (compatible; YandexMetrika/2.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.5.0",
    "python-requests/2.32",
    "",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_person_is_not_taken_for_a_robot(agent: str) -> None:
    """A visitor who is marked is missing from every number."""
    assert bot_of({b"user-agent": agent.encode()}) is None


@pytest.mark.parametrize("agent", ROBOTS)
def test_robot_is_known_by_its_agent(agent: str) -> None:
    """They come to every site by the thousand and never buy."""
    assert bot_of({b"user-agent": agent.encode()}) == "crawler"


@pytest.mark.parametrize("name", [b"purpose", b"sec-purpose"])
def test_page_that_nobody_has_seen_yet_is_a_prefetch(name: bytes) -> None:
    """A search engine's page loads results ahead of a click that mostly does not come."""
    assert bot_of({name: b"prefetch", b"user-agent": PEOPLE[0].encode()}) == "prefetch"
