"""A destination starts with exactly what its owner wrote, its secrets from elsewhere, or not at all."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from closedloop.config import read_sites
from closedloop.deliver.destinations.webhook import WebhookSettings
from closedloop.deliver.registry import DestinationConfig
from closedloop.errors import ConfigError

WEBHOOK = """
[[sites.default.destinations]]
type = "webhook"
url = "https://shop.example/hook"
"""
SECRETS = {name: "whsec_" + base64.b64encode(name.encode() * 24).decode() for name in ("A", "B")}
IN_THE_FILE = 'holds a secret in the file; write "env:NAME" or "file:PATH" instead'

Read = Callable[[str], tuple[DestinationConfig, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Give the reader of the destinations in a closedloop.toml; the environment has the secrets A and B."""

    def read_text(text: str, environment: Mapping[str, str] = SECRETS) -> tuple[DestinationConfig, ...]:
        path = tmp_path / "closedloop.toml"
        path.write_text(f"[sites.default]\n{text}")
        return read_sites(path, environment)["default"].destinations

    return read_text


def mistakes_of(read: Read, text: str) -> list[str]:
    """Return the mistakes of a configuration from the name of the site's setting on."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [line.partition("sites.default.")[2] for line in caught.value.mistakes]


def test_destination_has_its_secrets_from_the_environment(read: Read) -> None:
    """The file stands in a repository; two secrets sign while a receiver changes over."""
    [destination] = read(f'{WEBHOOK}secrets = ["env:A", "env:B"]\nname = "shop"')

    settings = WebhookSettings(url="https://shop.example/hook", secrets=(SECRETS["A"], SECRETS["B"]))
    assert destination == DestinationConfig(name="shop", type="webhook", settings=settings)


def test_destination_without_a_name_is_called_like_its_type(read: Read) -> None:
    """Most sites have one of a kind."""
    [destination] = read(f'{WEBHOOK}secrets = "env:A"')

    assert destination.name == "webhook"


def test_site_without_destinations_has_none(read: Read) -> None:
    """Sessions and conversions are worth keeping by themselves."""
    assert read("") == ()


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("destinations = 1", ["destinations must be tables such as [[sites.default.destinations]]"]),
        ("destinations = [1]", ["destinations must be tables such as [[sites.default.destinations]]"]),
        ("[[sites.default.destinations]]", ["destinations[0].type is missing: one of "]),
        (
            '[[sites.default.destinations]]\ntype = "webhok"',
            ["destinations[0].type is not a destination: 'webhok'; did you mean 'webhook'?"],
        ),
        (
            f"{WEBHOOK}secret = 1",
            [
                "destinations[0].secret is not a setting; did you mean secrets?",
                "destinations[0].secrets is missing: Signing secrets, such as env:NAME",
            ],
        ),
        (
            f'{WEBHOOK}secrets = "env:C"\ncontacts = 5',
            [
                "destinations[0].contacts is wrong: Expected `bool`, got `int`",
                "destinations[0].secrets names the environment variable C, which is not set",
            ],
        ),
        (
            f'{WEBHOOK}secrets = "env:A"{WEBHOOK}secrets = "env:A"',
            ["destinations[1].name is that of another destination, too: 'webhook'"],
        ),
        (
            f'{WEBHOOK}secrets = "env:A"\nname = "Webhook 1"',
            ["destinations[0].name must be lower-case letters, digits, '-' and '_'"],
        ),
    ],
)
def test_mistakes_of_destinations_stop_the_start(read: Read, text: str, mistakes: list[str]) -> None:
    """A destination that is passed over in silence is money that no platform hears of."""
    told = mistakes_of(read, text)

    assert [line[: len(mistake)] for line, mistake in zip(told, mistakes, strict=True)] == mistakes


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ('secrets = ["env:A", "hunter2"]', ["secrets[1]"]),
        ('secrets = "hunter2"', ["secrets"]),
        ("secrets = 42", ["secrets"]),
    ],
)
def test_secret_in_the_file_is_refused_unseen(read: Read, line: str, places: list[str]) -> None:
    """The file stands in a repository, and the sentence about it in a log."""
    assert mistakes_of(read, WEBHOOK + line) == [f"destinations[0].{place} {IN_THE_FILE}" for place in places]
