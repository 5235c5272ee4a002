"""Whatever a caller sends, the answers are those that the served description promises, and no others."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from closedloop.edge.http.openapi import DESCRIPTION, KEYS
from fix_postgres import Cluster
from fix_server import HOOK, KEY, Server

SEED = 20261124
DESCRIBED = schemathesis.openapi.from_dict(json.loads(json.dumps(DESCRIPTION)))
OPERATIONS = [operation.ok().label for operation in DESCRIBED.get_all_operations()]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

# What a person may type into a field, right and wrong, so that every pair of keys meets sooner or later.
PLAUSIBLE = st.sampled_from(
    [
        "known",
        "1712345678901234567",
        1.7e18,
        "",
        None,
        "{{Lead.id}}",
        "5 000,00",
        0,
        -1,
        "RUB",
        "NaN",
        True,
        "\0",
    ]
    + [
        "2026-11-23T10:00:00Z",
        "+79001234567",
        "a@b.example",
        [],
        {},
        "x" * 300,
        "\ud800",
        "default",
        "DEAL_1",
    ]
)


@pytest.fixture(scope="module")
def hook(postgres: Cluster, scratch: Path) -> Iterator[Server]:
    """Give one server for all examples, with the session `known`."""
    name = postgres.create_database()
    made = Server(Path(tempfile.mkdtemp(prefix="server-", dir=scratch)), postgres.url(name), {}, ())
    made.start()
    with psycopg.connect(postgres.url(name)) as conn:
        conn.execute("insert into public.user_analytics (session_id) values ('known')")
    yield made
    made.close()
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def client() -> Iterator[requests.Session]:
    """Give one connection for all examples."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def bounded(max_examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what makes a property bounded and the same at every run; its seed stands in the output."""
    print(f"seed {SEED}")  # noqa: T201 - pytest shows it with a failure
    limits = settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda property_: limits(seed(SEED)(property_))


def call(case: Case[Any], hook: Server, client: requests.Session, **headers: str) -> schemathesis.Response:
    """Send one example as it was made up."""
    return case.call(base_url=hook.url, session=client, headers=headers, allow_redirects=False)


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_a_described_one(
    hook: Server, client: requests.Session, label: str, mode: GenerationMode
) -> None:
    """Senders' authors program against the description, and a 5xx makes their tools send again for hours."""
    operation = DESCRIBED.find_operation_by_label(label)
    assert operation is not None

    @bounded(60 if label.endswith(HOOK) else 5)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Case[Any]) -> None:
        case.validate_response(call(case, hook, client, **{"X-Webhook-Key": KEY}), checks=CHECKS)

    holds()


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_without_the_key_nothing_but_401_is_answered(
    hook: Server, client: requests.Session, method: str
) -> None:
    """What a stranger sends must not even be read."""
    operation = DESCRIBED.find_operation_by_label(f"{method} {HOOK}")
    assert operation is not None

    @bounded(40)
    @given(case=operation.as_strategy())
    def holds(case: Case[Any]) -> None:
        assert call(case, hook, client).status_code == 401

    holds()


def test_plausible_values_in_any_mix_are_answered(hook: Server, client: requests.Session) -> None:
    """Random text hardly ever is a session and a deal at once; these reach revisions and repetitions."""

    @bounded(200)
    @given(body=st.dictionaries(st.sampled_from(sorted(KEYS)), PLAUSIBLE), is_form=st.booleans())
    def holds(body: dict[str, object], *, is_form: bool) -> None:
        sent = {"data": body} if is_form else {"data": json.dumps(body).encode()}
        answer = client.post(hook.url + HOOK, headers={"X-Webhook-Key": KEY}, **sent)
        assert answer.status_code in {200, 400, 404}

    holds()
