"""A destination is found by its type, and its settings by their names."""

import pytest

from closedloop.deliver.destinations.webhook import WebhookSettings
from closedloop.deliver.registry import (
    DESTINATIONS,
    DestinationConfig,
    read_destination,
    settings_of,
    unknown_type,
)
from closedloop.errors import ConfigError
from fix_destinations import SECRET

URL = "https://shop.example/hook"


def reveal(key: str, value: object) -> object:
    """Give what the environment has: the secret under S, for `secrets` only."""
    assert key == "secrets"
    return SECRET if value == "env:S" else None


def test_settings_are_of_the_destination() -> None:
    """A dashboard asks for them, too."""
    assert settings_of("webhook", {"url": URL, "secrets": SECRET}) == WebhookSettings(
        url=URL, secrets=(SECRET,)
    )


def test_unknown_type_is_told_with_the_nearest() -> None:
    """It is one word of two."""
    with pytest.raises(ConfigError) as caught:
        settings_of("url_template", {})

    assert caught.value.mistakes == [
        "type is not a destination: 'url_template'; did you mean 'url-template'?"
    ]
    assert unknown_type("telegram").startswith("is not a destination: 'telegram'; known are: ")


def test_row_of_the_file_is_a_destination() -> None:
    """What it was told is kept under its name."""
    row: dict[str, object] = {"type": "webhook", "name": "shop", "url": URL, "secrets": "env:S"}

    config = read_destination(row, reveal)
    settings = WebhookSettings(url=URL, secrets=(SECRET,))
    assert config == DestinationConfig(name="shop", type="webhook", settings=settings)
    assert config.destination is DESTINATIONS["webhook"]


@pytest.mark.parametrize(
    ("row", "mistakes"),
    [
        ({}, ["type is missing: one of "]),
        ({"type": 5}, ["type is missing: one of "]),
        ({"type": "webhok"}, ["type is not a destination: 'webhok'; did you mean 'webhook'?"]),
        (
            {"type": "webhook", "name": "A b"},
            ["name must be lower-case letters", "secrets is missing", "url is"],
        ),
        (
            {"type": "webhook", "name": 5, "url": URL, "secrets": "env:S"},
            ["name must be lower-case letters, digits, '-' and '_'"],
        ),
    ],
)
def test_all_mistakes_of_a_row_are_told(row: dict[str, object], mistakes: list[str]) -> None:
    """Each line begins with its key, so that a form can show it there."""
    with pytest.raises(ConfigError) as caught:
        read_destination(row, reveal)

    told = caught.value.mistakes
    assert [line[: len(mistake)] for line, mistake in zip(told, mistakes, strict=True)] == mistakes


def test_secret_that_cannot_be_read_hides_no_other_mistake() -> None:
    """Whoever gave the secret has noted its own mistake."""
    row: dict[str, object] = {"type": "webhook", "url": "http://a.example", "secrets": "env:T"}

    with pytest.raises(ConfigError) as caught:
        read_destination(row, reveal)

    assert caught.value.mistakes == ["url must begin with https://: sales do not travel in the open"]
