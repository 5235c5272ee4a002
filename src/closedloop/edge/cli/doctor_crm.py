"""What `doctor` looks at in each configured CRM: connection, rights, stages, the field of the session."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from closedloop.edge.cli.crm_process import crm_process
from closedloop.edge.cli.doctor_check import FAIL, OK, WARN, Check
from closedloop.errors import ClosedloopError, CrmAwayError
from closedloop.settings import Config
from closedloop.stages.crms import Crm, address_of


def crm_checks(settings: Config, config: Path | None, data_dir: Path | None) -> Iterator[Check]:
    """Yield what was seen of every CRM that can be asked; nothing where none is configured."""
    told = [one for site in settings.sites.values() for one in (site.bitrix24, site.amocrm)]
    if not any(one is not None and address_of(one) is not None for one in told):
        return
    try:
        yield from asyncio.run(look_at_all(config, data_dir))
    except ClosedloopError as error:
        yield Check(
            check="CRM", state=WARN, seen=f"not checked: {error}", mend="mend first what failed above"
        )


async def look_at_all(config: Path | None, data_dir: Path | None) -> list[Check]:
    """Return what was seen of every CRM, one after the other."""
    async with crm_process(config, data_dir) as (_, process):
        crms = [crm for of_site in process.crms.of.values() for crm in of_site.values()]
        return [check for crm in crms if crm.client is not None for check in await look_at(crm)]


async def look_at(crm: Crm) -> list[Check]:
    """Return what was seen of one CRM."""
    assert crm.client is not None  # noqa: S101 - the caller's condition
    name = f"{crm.name} of {crm.site.name}"
    try:
        seen = await crm.client.converse(crm.client.api.check())
    except CrmAwayError as error:
        mend = "check the address and the network, and run this again"
        return [Check(check=name, state=FAIL, seen=str(error), mend=mend)]
    except ClosedloopError as error:
        return [Check(check=name, state=FAIL, seen=str(error), mend="do what it says, and run this again")]
    return [
        Check(
            check=f"{name}: {one.name}",
            state=OK if one.is_ok else FAIL,
            seen=one.sentence,
            mend="" if one.is_ok else "do what it says, and run this again",
        )
        for one in seen
    ]
