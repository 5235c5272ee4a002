"""Whatever a caller sends, the answers are those that the served description promises, and no others."""

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
import requests
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from closedloop.edge.http.openapi import DESCRIPTION, KEYS
from fix_server import HOOK, KEY, Server

# Imported so because its types are half known, which no strict checker lets pass.
schemathesis: Any = importlib.import_module("schemathesis")
checks: Any = importlib.import_module("schemathesis.specs.openapi.checks")

SEED = 20261124
RICH = [f"POST {HOOK}", f"GET {HOOK}", "GET /api/v1/reconcile"]
PLAIN = [f"HEAD {HOOK}", f"OPTIONS {HOOK}", "GET /healthz", "GET /readyz", "GET /metrics"]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]

# What a person or a tool may put into a field, right and wrong, so that every two of them meet in some key.
TEXTS = ["known", "1712345678901234567", "", "{{Lead.id}}", "5 000,00", "RUB", "NaN", "2026-11-23T10:00:00Z"]
ODD_TEXTS = ["+79001234567", "a@b.example", "default", "DEAL_1", "\0", "\ud800", "\ufeff", "%", "x" * 300]
OTHERS: list[object] = [1, -1, 1.7e18, 1795417200, None, True, [], {}, ["DEAL_1"]]
PLAUSIBLE: st.SearchStrategy[object] = st.sampled_from([*TEXTS, *ODD_TEXTS, *OTHERS])


@pytest.fixture(scope="module")
def known(hook: Server) -> Server:
    """Give the server for all examples, with the session `known`."""
    assert hook.database_url is not None
    with psycopg.connect(hook.database_url) as conn:
        conn.execute("insert into public.user_analytics (session_id) values ('known')")
    return hook


@pytest.fixture(scope="module")
def client() -> Iterator[requests.Session]:
    """Give one connection for all examples."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="module")
def described(known: Server) -> Any:  # noqa: ANN401
    """Give the description as it is served, read by schemathesis."""
    return schemathesis.openapi.from_dict(known.get("/api/v1/openapi.json", key=None).json())


def bounded(max_examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what bounds a property and makes it the same at every run; its seed stands in the output."""
    print(f"seed {SEED}")  # noqa: T201 - pytest shows it with a failure
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    limits = settings(max_examples=max_examples, deadline=None, database=None, suppress_health_check=slow)
    return lambda holds: limits(seed(SEED)(holds))


def call(case: Any, known: Server, client: requests.Session, headers: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Send one example as it was made up."""
    return case.call(base_url=known.url, session=client, headers=headers, allow_redirects=False)


def test_every_described_operation_is_tried(described: Any) -> None:  # noqa: ANN401
    """An operation that is added to the description must not stay untried."""
    labels = {found.ok().label for found in described.get_all_operations()}

    assert labels == {*RICH, *PLAIN, "GET /api/v1/openapi.json"}
    assert set(DESCRIPTION["paths"]) == {label.partition(" ")[2] for label in labels}


@pytest.mark.parametrize("label", PLAIN)
def test_every_plain_answer_is_a_described_one(
    known: Server,
    client: requests.Session,
    described: Any,  # noqa: ANN401
    label: str,
) -> None:
    """Monitors and browsers call these, and take what they were told literally."""

    @bounded(2)
    @given(case=described.find_operation_by_label(label).as_strategy())
    def holds(case: Any) -> None:  # noqa: ANN401
        case.validate_response(call(case, known, client, {}), checks=CHECKS)

    holds()


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("label", RICH)
def test_every_answer_is_a_described_one(
    known: Server,
    client: requests.Session,
    described: Any,  # noqa: ANN401
    label: str,
    mode: str,
) -> None:
    """Senders are programmed after the description, and a 5xx makes their tools send again for hours."""
    examples = described.find_operation_by_label(label).as_strategy(schemathesis.GenerationMode(mode))

    @bounded(100)
    @given(case=examples)
    def holds(case: Any) -> None:  # noqa: ANN401
        case.validate_response(call(case, known, client, {"X-Webhook-Key": KEY}), checks=CHECKS)

    holds()


@pytest.mark.parametrize("label", RICH)
def test_without_the_key_nothing_but_401_is_answered(
    known: Server,
    client: requests.Session,
    described: Any,  # noqa: ANN401
    label: str,
) -> None:
    """What a stranger sends must not even be read."""

    @bounded(60)
    @given(case=described.find_operation_by_label(label).as_strategy())
    def holds(case: Any) -> None:  # noqa: ANN401
        assert call(case, known, client, {}).status_code == 401

    holds()


def test_plausible_values_in_any_mix_are_answered(known: Server, client: requests.Session) -> None:
    """Random text hardly ever is a session and a deal at once; these reach revisions and repetitions."""

    @bounded(300)
    @given(body=st.dictionaries(st.sampled_from(sorted(KEYS)), PLAUSIBLE, max_size=4), is_form=st.booleans())
    def holds(body: dict[str, object], *, is_form: bool) -> None:
        sent = (
            urlencode(body, errors="surrogatepass") if is_form else json.dumps({"session_id": "known"} | body)
        )
        answer = client.post(known.url + HOOK, headers={"X-Webhook-Key": KEY}, data=sent)
        assert answer.status_code in {200, 400, 404}

    holds()
