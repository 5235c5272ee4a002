"""`inspect` is how an integrator sees what we would make of their request, without sending it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from closedloop.edge.cli.inspect import inspect_generic, inspect_tilda, recorded_request
from closedloop.edge.cli.main import app
from closedloop.errors import OperatorError
from closedloop.settings import Site

RECORDED = Path(__file__).resolve().parents[2] / "recorded" / "integrators"
FORMS = RECORDED.parent / "tilda" / "webhook"
FORM_HEAD = b"POST /webhooks/default/tilda HTTP/1.1\r\n"
KEYLESS = {"lead-no-key", "test-request-no-key"}
PAID_ORDER = {
    "is_test": False,
    "session_id": "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13",
    "ym_uid": "1741000000123456789",
    "click_ids": {},
    "marks": {},
    "phone": "+79000000000",
    "email": "anna@mail.example",
    "code": None,
    "transaction_id": "7000001:5774608014",
    "form_id": "form500100401",
    "form_name": "Cart",
    "order": {"order_id": "1557604696", "amount": "700.5", "currency": None, "is_paid": True},
    "fields": {"Name": "Анна Пример", "Phone": "+7 (900) 000-00-00", "Email": "anna@mail.example"},
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEAD = b"POST /hook?session_id=s HTTP/1.1\r\n"


def run(*arguments: str | Path) -> Result:
    """Run the command as a program of its own."""
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_accepted_request_shows_every_key() -> None:
    """The whole reading is one JSON object: ids and money as text, what was not said as null."""
    told = inspect_generic((RECORDED / "make-json.http").read_bytes(), now=NOW)

    assert told == {
        "source": "generic",
        "accept": True,
        "reason": None,
        "events": [
            {
                "session_id": "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13",
                "ym_uid": None,
                "goal_name": "payment_success",
                "goal_value": "5000.5",
                "currency": "RUB",
                "deal_id": "662",
                "event_id": None,
                "occurred_at": "2025-03-08T12:20:00+00:00",
                "phone": None,
                "email": None,
                "site": None,
            }
        ],
    }


def test_refused_request_shows_the_reason() -> None:
    """It is the sentence that the sender would get."""
    told = inspect_generic((RECORDED / "make-broken-json-empty-number.http").read_bytes(), now=NOW)

    assert told == {
        "source": "generic",
        "accept": False,
        "reason": "goal_value breaks the JSON at position 96",
        "events": [],
    }


def test_rounded_id_shows_what_it_may_have_been() -> None:
    """The operator sees why the visitor is not found."""
    told = inspect_generic((RECORDED / "n8n-ym-uid-already-rounded.http").read_bytes(), now=NOW)

    assert '"ym_uid_interval": ["1741000000123456640", "1741000000123456896"]' in json.dumps(told)


def test_header_click_ids_and_array_are_shown() -> None:
    """All that the hook reads is shown under its own key."""
    raw = HEAD + b'Idempotency-Key: e1\r\n\r\n[{"gclid": "g"}, {"goal_value": "0"}]'

    told = json.dumps(inspect_generic(raw, now=NOW))

    assert '"event_id": "e1#0"' in told
    assert '"gclid": "g"' in told
    assert '"goal_value": "0"' in told


def test_zone_is_used_for_local_time() -> None:
    """The shop's clock decides which day a sale belongs to."""
    raw = HEAD + b"\r\noccurred_at=08.03.2025"

    told = json.dumps(inspect_generic(raw, now=NOW, sites=[Site(timezone="Asia/Omsk")]))

    assert "2025-03-08T00:00:00+06:00" in told


def test_other_methods_are_refused() -> None:
    """The hook takes POST, and GET for senders that can only call an address."""
    told = inspect_generic(HEAD.replace(b"POST", b"PUT") + b"\r\n", now=NOW)

    assert told["accept"] is False
    assert "PUT" in str(told["reason"])


def test_body_of_a_get_is_not_read() -> None:
    """The server does not read it either."""
    told = inspect_generic(HEAD.replace(b"POST", b"GET") + b'\r\n{"session_id":1.5}', now=NOW)

    assert told["accept"] is True


def test_length_cuts_what_an_editor_added() -> None:
    """A line break at the end of the file was never sent."""
    request = recorded_request(HEAD + b"Content-Length: 3\r\n\r\nabc\r\n")

    assert request.body == b"abc"
    assert request.query == b"session_id=s"


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"POST / HTTP/1.1\nHost: x\n\n", b"a b\r\n\r\n", b"a b c\r\n\r\n"]
)
def test_other_bytes_are_no_request(raw: bytes) -> None:
    """A saved body alone, or a file with other line ends, is told as such."""
    with pytest.raises(OperatorError, match="not an HTTP request"):
        recorded_request(raw)


@given(st.binary())
def test_any_file_is_shown_or_refused(raw: bytes) -> None:
    """Wrong use ends with a sentence, not with a trace."""
    try:
        told = inspect_generic(HEAD + raw, now=NOW), inspect_tilda(FORM_HEAD + raw)
    except OperatorError:
        return

    assert json.dumps(told)


@pytest.mark.parametrize(("name", "code"), [("make-json", 0), ("unsubstituted-placeholder", 1)])
def test_exit_code_says_whether_it_is_accepted(name: str, code: int) -> None:
    """Scripts read the code, people the JSON; names stay readable in it."""
    result = run("generic", RECORDED / f"{name}.http")

    assert result.exit_code == code
    assert json.loads(result.stdout)["accept"] is (code == 0)


def test_names_stay_readable_on_the_screen() -> None:
    """Most goals are called in Russian."""
    result = run("generic", RECORDED / "albato-json-all-strings.http")

    assert "Успешно реализовано" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fax", RECORDED / "make-json.http"], "There is no source 'fax'"),
        (["generic", RECORDED / "no-such.http"], "cannot be read"),
        (["generic", RECORDED], "cannot be read"),
        (["generic", Path(__file__)], "not an HTTP request"),
        (["generic", RECORDED / "make-json.http", "--config", RECORDED / "no-such.toml"], "cannot be read"),
        (["generic", RECORDED / "make-json.http", "--config", Path(__file__)], "is not TOML"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: list[str | Path], sentence: str) -> None:
    """Exit code 2 and nothing on the standard output, so that a pipe breaks early."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("settings", "offset"),
    [('[sites.default]\ntimezone = "Asia/Omsk"\n', "+06:00"), ("", "+03:00"), ("[sites.other]\n", "+03:00")],
)
def test_configuration_brings_the_zone(tmp_path: Path, settings: str, offset: str) -> None:
    """Dates without a zone are shown as the server of this shop would read them."""
    config = tmp_path / "closedloop.toml"
    config.write_text(settings)

    result = run("generic", RECORDED / "albato-json-all-strings.http", "--config", config)

    assert f"2025-03-08T15:20:00{offset}" in result.stdout


@pytest.mark.parametrize("zone", ['"Mars/Base"', "5", '"../etc"', '""'])
def test_unknown_zone_is_wrong_use(tmp_path: Path, zone: str) -> None:
    """A wrong zone would move every conversion without a word."""
    config = tmp_path / "closedloop.toml"
    config.write_text(f"[sites.default]\ntimezone = {zone}\n")

    result = run("generic", RECORDED / "make-json.http", "--config", config)

    assert result.exit_code == 2
    assert "timezone" in result.stderr


@pytest.mark.parametrize(("key", "accept"), [("demo-header-key-31", True), ("another-key", False)])
def test_configured_keys_are_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, *, accept: bool
) -> None:
    """Somebody who looks for the reason of a 401 gets the server's own answer."""
    monkeypatch.setenv("HOOK_KEY", key)
    config = tmp_path / "closedloop.toml"
    config.write_text('[sites.default]\nwebhook_keys = ["env:HOOK_KEY"]\n')

    result = run("generic", RECORDED / "make-json.http", "--config", config)

    assert json.loads(result.stdout)["accept"] is accept


def test_form_of_tilda_shows_its_lead() -> None:
    """The owner sees what of a form arrives, without sending one; the key is not among it."""
    told = inspect_tilda((FORMS / "order-json-paid.http").read_bytes())

    assert (told["source"], told["accept"], told["reason"]) == ("tilda", True, None)
    assert told["lead"] == PAID_ORDER


@pytest.mark.parametrize("path", sorted(FORMS.glob("*.http")), ids=lambda path: path.stem)
def test_form_of_tilda_needs_some_key(path: Path) -> None:
    """Without a configuration any key is taken for the right one, but there must be one."""
    result = run("tilda", path)
    told = json.loads(result.stdout)

    assert result.exit_code == (1 if path.stem in KEYLESS else 0)
    assert told["accept"] is (path.stem not in KEYLESS)
    assert ("key is missing" in str(told["reason"])) is (path.stem in KEYLESS)
    assert "demo-" not in result.stdout


@pytest.mark.parametrize(
    ("head", "body", "accept"),
    [
        ("POST /webhooks/default/tilda?token=right HTTP/1.1\r\n", "", True),
        ("POST /webhooks/default/tilda?key=wrong HTTP/1.1\r\n", "", False),
        ("POST /webhooks/default/tilda HTTP/1.1\r\nAuthorization: right\r\n", "", True),
        ("POST /webhooks/default/tilda HTTP/1.1\r\nAuthorization: Bearer wrong\r\n", "", False),
        ("POST /webhooks/default/tilda HTTP/1.1\r\n", "any=Bearer+right", True),
        ("POST /webhooks/default/tilda HTTP/1.1\r\n", "token=wrong", False),
        ("POST /webhooks/another/tilda HTTP/1.1\r\n", "token=right", False),
        ("POST /webhooks/no-such/tilda?key=right HTTP/1.1\r\n", "", False),
        ("GET /webhooks/default/tilda?key=right HTTP/1.1\r\n", "", False),
        ("POST /webhooks/default/tilda?key=right HTTP/1.1\r\n", "{", False),
    ],
)
def test_form_of_tilda_is_judged_by_the_keys_of_its_site(head: str, body: str, *, accept: bool) -> None:
    """Somebody who looks for the reason of a 401 gets the server's own answer."""
    sites = [Site(webhook_keys=("right",)), Site(name="another", webhook_keys=("other",))]

    told = inspect_tilda(f"{head}\r\n{body}".encode(), sites=sites)

    assert (told["accept"], told["reason"] is None, told["lead"] is not None) == (accept,) * 3


@pytest.mark.parametrize(("name", "reason"), [("token", "is not a key"), ("Name", "is missing")])
def test_wrong_key_in_a_form_is_not_called_missing(name: str, reason: str) -> None:
    """The owner did send one, and looks for the slip in it."""
    told = inspect_tilda(FORM_HEAD + f"\r\n{name}=wrong".encode(), sites=[Site(webhook_keys=("right",))])

    assert reason in str(told["reason"])
