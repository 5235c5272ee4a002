"""The reference says what the code does, since it is made from it."""

import tomllib

import pytest

from closedloop.deliver.reference import reference_page
from closedloop.deliver.registry import DESTINATIONS, read_destination
from fix_destinations import EXAMPLES
from fix_tools import REPOSITORY


def test_page_is_up_to_date() -> None:
    """`scripts/reference` was forgotten, and owners read of settings that are gone."""
    assert (REPOSITORY / "docs" / "reference" / "destinations.md").read_text() == reference_page()


@pytest.mark.parametrize("name", DESTINATIONS)
def test_least_settings_are_accepted(name: str) -> None:
    """They are copied by whoever begins."""
    block = reference_page({name: DESTINATIONS[name]}).partition("```toml")[2].partition("```")[0]
    [row] = tomllib.loads(block)["sites"]["default"]["destinations"]

    config = read_destination(row, lambda key, _: EXAMPLES[name][key])
    assert config.type == name
