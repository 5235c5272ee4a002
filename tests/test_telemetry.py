"""No key, token or password reaches a log, however it came into the line; every number is named once."""

import base64
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from closedloop.telemetry import REGISTRY, mask_event, masked, set_up_logs

# What needs no escaping in an address, as keys and tokens are made of; passwords are made by people. The mark
# in front stands nowhere else in the texts.
SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
SECRET = st.text(SAFE, min_size=8).map("S3cr3t".__add__)
PASSWORD = st.text("ABCXYZabcxyz0123456789-._~@:/?#=&%+!$", min_size=8).map("S3cr3t".__add__)


@given(secret=SECRET, before=st.sampled_from(["?", "?a=1&", "/hook?session_id=s-1&"]))
@pytest.mark.parametrize("name", ["key", "KEY", "apikey", "access_token", "token", "password"])
def test_key_in_an_address_never_survives(name: str, secret: str, before: str) -> None:
    """Bitrix24 and amoCRM can send the key in no other place."""
    told = masked(f"POST {before}{name}={secret}&goal_value=5000 HTTP/1.1")

    assert secret not in told
    assert told == f"POST {before}{name}=…&goal_value=5000 HTTP/1.1"


@given(secret=SECRET)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic"])
@pytest.mark.parametrize("label", ["Authorization: ", "authorization=", "'Authorization': '", ""])
def test_key_in_the_authorization_header_never_survives(label: str, scheme: str, secret: str) -> None:
    """Traces of HTTP libraries print the headers of a request as they are."""
    if scheme == "Basic":
        secret = base64.b64encode(f"user:{secret}".encode()).decode()

    assert secret not in masked(f"sent {label}{scheme} {secret} to us")


@given(secret=SECRET)
@pytest.mark.parametrize(
    "label", ["X-Webhook-Key: ", "x-webhook-key=", "apikey: ", "{'apikey': '", '"x-webhook-key": "']
)
def test_key_in_its_own_header_never_survives(label: str, secret: str) -> None:
    """Whoever logs all headers must not have to know which of them opens the door."""
    assert secret not in masked(f"headers {label}{secret}, host: shop.example")


@given(secret=PASSWORD, user=st.sampled_from(["postgres", "postgres.abcdefgh", ""]))
def test_password_of_a_database_url_never_survives(user: str, secret: str) -> None:
    """Libpq's messages, and ours about a wrong address, repeat it whole."""
    told = masked(
        f'connection to "postgresql://{user}:{secret}@db.example:5432/postgres?sslmode=require" failed'
    )

    assert secret not in told
    assert f"postgresql://{user}:…@db.example:5432/postgres" in told


@given(secret=SECRET)
@pytest.mark.parametrize("form", ["host=db password={} user=x", "password = {}", "password='{}' host=db"])
def test_password_of_a_conninfo_never_survives(form: str, secret: str) -> None:
    """The other spelling of the same address."""
    assert secret not in masked(form.format(secret))


@given(secret=SECRET)
def test_signing_secret_never_survives(secret: str) -> None:
    """Its prefix gives it away wherever it stands."""
    assert secret not in masked(f"cannot decode whsec_{secret} of the site")


@pytest.mark.parametrize(
    "text",
    [
        "key phrase=1",
        "monkey=banana",
        "the token was refused",
        "password authentication failed for user",
        "send the site's key as X-Webhook-Key, Authorization: Bearer, apikey or ?key=",
        "https://shop.example:443/a?idempotency-key=1&dedup_key=2",
        "webhook_refused: goal_value is not a finite number: 'five'",
        "2026-11-24T11:00:00Z",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """A log of dots helps nobody."""
    assert masked(text) == text


def test_every_text_of_a_line_is_masked() -> None:
    """The key may stand in the event, in a field or in the trace."""
    line = {
        "event": "?key=abcdefgh",
        "reason": "Bearer abcdefgh",
        "count": 3,
        "exception": "x://u:abcdefgh@h",
    }

    assert mask_event(None, "info", line) == {
        "event": "?key=…",
        "reason": "Bearer …",
        "count": 3,
        "exception": "x://u:…@h",
    }


def test_texts_inside_lists_and_tables_are_masked_too() -> None:
    """A field may be a whole request, or an error that carries one."""
    request = {"query": b"?key=abcdefgh", "headers": ["Bearer abcdefgh"], "apikey": "abcdefgh", "Password": 1}
    line: dict[str, object] = {"event": "x", "request": request, "error": ValueError("?key=abcdefgh")}

    shown = mask_event(None, "info", line)

    assert "abcdefgh" not in str(shown)
    assert shown["request"]["Password"] == "…"  # noqa: S105 - the three dots
    assert shown["error"] == "ValueError('?key=…"


def test_log_is_one_json_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Collectors of logs read it line by line; standard output belongs to the greeting."""
    before = structlog.get_config()
    set_up_logs(pretty=False)

    structlog.get_logger().info("tried", address="/hook?key=abcdefgh")
    structlog.get_logger().debug("not shown")

    structlog.configure(**before)
    printed = capsys.readouterr()
    line = json.loads(printed.err)
    assert printed.out == ""
    assert (line["event"], line["level"], line["address"]) == ("tried", "info", "/hook?key=…")
    assert line["timestamp"].endswith("Z")


def test_command_logs_what_it_is_told_to_and_no_less(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a bar and a table only what went wrong has a place."""
    before = structlog.get_config()
    set_up_logs(pretty=False, least=logging.WARNING)

    structlog.get_logger().info("not shown")
    structlog.get_logger().warning("shown")

    structlog.configure(**before)
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["shown"]


def test_every_metric_is_ours_and_explained() -> None:
    """Dashboards of users are built on these names."""
    for metric in REGISTRY.collect():
        assert metric.name.startswith("closedloop_")
        assert metric.documentation.endswith(".")
