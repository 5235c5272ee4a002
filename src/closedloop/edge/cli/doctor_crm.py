"""What `doctor` looks at in each configured CRM: connection, rights, stages, the field of the session."""

import asyncio
from collections.abc import Iterator

from closedloop.edge.cli.crm_process import log_warnings_only
from closedloop.edge.cli.doctor_check import FAIL, OK, WARN, Check
from closedloop.errors import ClosedloopError, CrmAwayError
from closedloop.settings import Config
from closedloop.stages.crms import Crm, address_of
from closedloop.stages.process import Process

AGAIN = "do what it says, and run this again"


def crm_checks(settings: Config, conninfo: str) -> Iterator[Check]:
    """Yield what was seen of every CRM that can be asked; nothing where none is configured."""
    told = [one for site in settings.sites.values() for one in (site.bitrix24, site.amocrm)]
    if any(one is not None and address_of(one) is not None for one in told):
        log_warnings_only()
        yield from asyncio.run(look_at_all(settings, conninfo))


async def look_at_all(settings: Config, conninfo: str) -> list[Check]:
    """Return what was seen of every CRM, all of which are looked at together.

    The process is not started, as that would migrate the database; only a pair of tokens is read in it.
    """
    process = Process(settings, conninfo, web=False, worker=False)
    await process.pool.open()
    try:
        crms = [crm for of_site in process.crms.of.values() for crm in of_site.values()]
        seen = await asyncio.gather(*(look_at(crm) for crm in crms if crm.client is not None))
        return [check for of_crm in seen for check in of_crm]
    finally:
        await process.stop()


async def look_at(crm: Crm) -> list[Check]:
    """Return what was seen of one CRM."""
    assert crm.client is not None  # noqa: S101 - the caller's condition
    name = f"{crm.name} of {crm.site.name}"
    client = crm.client.impatient()
    try:
        seen = await client.converse(client.api.check())
    except CrmAwayError as error:
        mend = "check the address and the network, and run this again"
        return [Check(check=name, state=FAIL, seen=str(error), mend=mend)]
    except ClosedloopError as error:
        return [Check(check=name, state=FAIL, seen=str(error), mend=AGAIN)]
    # A shop that names no field may be served by comments, phones and e-mails alone.
    lax = None if crm.settings.session_field else "session field"
    return [
        Check(
            check=f"{name}: {one.name}",
            state=OK if one.is_ok else WARN if one.name == lax else FAIL,
            seen=one.sentence,
            mend="" if one.is_ok else AGAIN,
        )
        for one in seen
    ]
