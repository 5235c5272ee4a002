"""The description says what the server does: a client that is generated from it works."""

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from closedloop import __version__
from closedloop.domain.conversion import DEFAULT_GOAL
from closedloop.domain.ids import CLICK_IDS, MESSENGER_CODE
from closedloop.domain.reconcile import Comparison, Difference
from closedloop.edge.http.answers import ANSWERS
from closedloop.edge.http.openapi import DESCRIPTION, HOOK_ANSWERS, KEYS, PATH
from closedloop.edge.http.reconcile import PATH as RECONCILE_PATH
from closedloop.edge.http.reconcile import STATUSES
from closedloop.errors import (
    CallerError,
    DatabaseAwayError,
    DatabaseRefusedError,
    MissingIdError,
    TooLargeError,
    UnknownKeyError,
)
from fix_postgres import Cluster
from fix_server import HOOK, Server
from fix_tools import REPOSITORY

schemathesis: Any = importlib.import_module("schemathesis")  # half typed, see tests/flow/test_fuzz.py


@pytest.fixture(scope="module")
def served(postgres: Cluster, scratch: Path) -> Iterator[dict[str, Any]]:
    """Give the description as a stranger gets it."""
    name = postgres.create_database()
    made = Server(Path(tempfile.mkdtemp(prefix="server-", dir=scratch)), postgres.url(name), {}, ())
    made.start()
    reply = made.get(PATH, key=None)
    assert reply.headers["content-type"] == "application/json"
    yield reply.json()
    made.close()
    postgres.drop_database(name)


def contract_keys() -> set[str]:
    """Return the keys that docs/contract.md, section 2, names in its table."""
    section = (REPOSITORY / "docs" / "contract.md").read_text().partition("## 2.")[2].partition("## 3.")[0]
    table = section.partition("| body key |")[2].partition("\n\n")[0]
    return {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}


def test_served_description_is_valid_openapi(served: dict[str, Any]) -> None:
    """Generators of clients refuse what is not."""
    schemathesis.openapi.from_dict(served).validate()

    assert served["openapi"].startswith("3.1.")
    assert served["info"]["version"] == __version__


def test_every_address_of_the_hook_is_described(served: dict[str, Any]) -> None:
    """What is missing here does not exist for whoever reads only this."""
    assert set(served["paths"]) == {HOOK, RECONCILE_PATH, "/healthz", "/readyz", "/metrics", PATH}
    assert {"post", "get", "head", "options"} < set(served["paths"][HOOK])


def test_every_key_of_the_contract_is_described() -> None:
    """The contract's table, its further identifiers and the keys of its prose."""
    further = {"event_id", "deal_id", "phone", "email", "currency", "occurred_at", "site", "document_id"}

    assert len(contract_keys()) == 4
    assert set(KEYS) == contract_keys() | further | {*CLICK_IDS, MESSENGER_CODE}
    assert KEYS["goal_name"]["default"] == DEFAULT_GOAL
    assert all(schema["description"] for schema in KEYS.values())


def test_every_key_may_come_in_the_query_too(served: dict[str, Any]) -> None:
    """Bitrix24 sends nothing in another way."""
    for method in ("post", "get"):
        parameters = served["paths"][HOOK][method]["parameters"]
        query = {one["name"] for one in parameters if one["in"] == "query"}
        assert query == set(KEYS) - {"document_id"}


def test_json_forms_and_text_are_described_as_bodies(served: dict[str, Any]) -> None:
    """Zapier and Albato send forms, Make sends JSON labelled as text."""
    content = served["paths"][HOOK]["post"]["requestBody"]["content"]
    many = served["components"]["schemas"]["Conversions"]

    forms = {"application/x-www-form-urlencoded", "multipart/form-data"}
    assert set(content) == {"application/json", "text/plain", *forms}
    assert (many["minItems"], many["maxItems"]) == (1, 100)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("webhookKey", ("apiKey", "header", "X-Webhook-Key")),
        ("apikey", ("apiKey", "header", "apikey")),
        ("queryKey", ("apiKey", "query", "key")),
        ("signature", ("apiKey", "header", "webhook-signature")),
        ("bearer", ("http", None, None)),
        ("basic", ("http", None, None)),
    ],
)
def test_every_way_to_send_the_key_is_described(
    served: dict[str, Any], name: str, place: tuple[str, str | None, str | None]
) -> None:
    """Whoever may set only one of them has to find it here; any one of them is enough."""
    scheme = served["components"]["securitySchemes"][name]

    assert (scheme["type"], scheme.get("in"), scheme.get("name")) == place
    assert {name: []} in served["paths"][HOOK]["post"]["security"]
    assert served["paths"][HOOK]["options"]["security"] == []


def test_every_status_that_is_answered_is_described() -> None:
    """An error class that gets a status of its own must be told to clients."""
    errors = [
        MissingIdError(),
        UnknownKeyError("key", "x"),
        TooLargeError("body", "x"),
        CallerError("a", "x"),
        DatabaseAwayError("x"),
        DatabaseRefusedError("x"),
        OSError(),
    ]
    assert [kind for kind, _ in ANSWERS if not any(isinstance(one, kind) for one in errors)] == []

    answered = {str(answer(one).status) for kind, answer in ANSWERS for one in errors if type(one) is kind}
    assert answered | {"200", "404", "429", "500"} == set(HOOK_ANSWERS)


def test_comparison_is_described_as_it_is_answered(served: dict[str, Any]) -> None:
    """Whoever generates a client from it reads every difference without looking at ours."""
    operation = served["paths"][RECONCILE_PATH]["get"]
    schemas = served["components"]["schemas"]

    assert {one["name"]: one.get("required", False) for one in operation["parameters"]} == {
        "from": True,
        "to": True,
        "crm": False,
    }
    assert set(operation["responses"]) == {"200", "401", *(str(status) for _, status in STATUSES)}
    assert set(schemas["Comparison"]["properties"]) == set(Comparison.__struct_fields__)
    assert set(schemas["Difference"]["properties"]) == set(Difference.__struct_fields__)
    assert schemas["Difference"]["required"] == list(Difference.__struct_fields__)


def test_key_of_the_comparison_is_never_in_the_address(served: dict[str, Any]) -> None:
    """It is asked for by programs, which can set headers; addresses end up in logs."""
    ways = {name for one in served["paths"][RECONCILE_PATH]["get"]["security"] for name in one}

    assert ways == {"webhookKey", "bearer", "apikey", "basic"}


def test_examples_of_the_keys_are_accepted_by_their_own_schemas() -> None:
    """An example that is copied and refused costs its reader an evening."""
    names: dict[type, set[str]] = {str: {"string"}, int: {"integer", "number"}}
    examples = [(schema["type"], one) for schema in KEYS.values() for one in schema.get("examples", [])]

    assert len(examples) > 8
    assert [one for types, one in examples if not names[type(one)] & set(types)] == []


def test_description_in_memory_is_the_one_that_is_served(served: dict[str, Any]) -> None:
    """Tests of this tree read the one, users the other."""
    assert served["paths"].keys() == DESCRIPTION["paths"].keys()
    assert served["info"] == DESCRIPTION["info"]
