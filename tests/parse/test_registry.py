"""Every CRM has its adapter and its API, under the name that stands in the address."""

import pytest

from closedloop.parse.registry import CRMS, amocrm_api, bitrix24_api, webhooks_of
from closedloop.settings import Site
from closedloop.stages.crms import NEEDED


@pytest.mark.parametrize("crm", CRMS)
def test_webhooks_of_a_crm_are_read_by_its_own_adapter(crm: str) -> None:
    """A megabyte is the limit of each."""
    adapter = webhooks_of(crm, Site().zone)

    assert (adapter.name, adapter.max_bytes) == (crm, 1024 * 1024)


def test_each_api_keeps_below_the_limit_of_its_vendor() -> None:
    """Two a second for a portal, seven for an account: others share them."""
    bitrix24, amocrm = bitrix24_api(None, with_steps=False), amocrm_api(None)

    assert (bitrix24.name, amocrm.name) == CRMS
    assert bitrix24.calls_per_second <= 2
    assert bitrix24.burst < 50
    assert amocrm.calls_per_second < 7


def test_every_crm_is_known_everywhere() -> None:
    """One that is added here must be told how it is configured, too."""
    assert tuple(NEEDED) == CRMS
    assert len({type(webhooks_of(crm, Site().zone)) for crm in CRMS}) == len(CRMS)
