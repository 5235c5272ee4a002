"""Which CRMs a deployment has: how webhooks are read, how deals are asked for, and which loops run."""

from collections.abc import Coroutine, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from closedloop.errors import OperatorError
from closedloop.parse.base import Trust
from closedloop.parse.registry import amocrm_api, bitrix24_api, webhooks_of
from closedloop.settings import AmoCrm, Bitrix24, Site, WriteBack
from closedloop.stages.amo_token import AmoToken
from closedloop.stages.crm import CrmClient
from closedloop.stages.dealbook import DealBook
from closedloop.stages.images import ImageKeeper
from closedloop.stages.inbox import InboxReader, Source
from closedloop.stages.intake import Intake
from closedloop.stages.readback import DealReader
from closedloop.stages.sweep import Sweeper
from closedloop.stages.writeback import BackWriter
from closedloop.store.statements import Shape

if TYPE_CHECKING:
    from closedloop.outbound import Outbound  # it takes some megabytes that a server without a CRM can spare

# What has to be set before a CRM can be asked.
NEEDED = {
    "bitrix24": "bitrix24.rest_url",
    "amocrm": "amocrm.base_url and amocrm.access_token (or amocrm.refresh_token)",
}


class Crm(msgspec.Struct, frozen=True, kw_only=True):
    """One CRM of one site; `client` is None where it cannot be asked."""

    name: str
    site: Site
    settings: Bitrix24 | AmoCrm
    book: DealBook
    client: CrmClient | None

    @property
    def every(self) -> timedelta:
        """How often it is swept."""
        return timedelta(minutes=self.settings.sweep_minutes)


class Crms:
    """The CRMs of all sites."""

    def __init__(self, sites: Mapping[str, Site], intake: Intake, keeper: ImageKeeper, shape: Shape) -> None:
        self.intake = intake
        self.shape = shape
        self.outbounds: list[Outbound] = []
        self.tokens: list[AmoToken] = []
        self.of: dict[str, dict[str, Crm]] = {
            site.name: {crm.name: crm for crm in self.crms(site, keeper)} for site in sites.values()
        }
        self.sites = sites

    def crms(self, site: Site, keeper: ImageKeeper) -> Iterator[Crm]:
        """Yield the CRMs of one site; one that is not configured can still send webhooks."""
        told: dict[str, Bitrix24 | AmoCrm] = {
            "bitrix24": site.bitrix24 or Bitrix24(),
            "amocrm": site.amocrm or AmoCrm(),
        }
        for name, settings in told.items():
            book = DealBook(site, name, self.shape, keeper, self.intake.sealer)
            yield Crm(
                name=name, site=site, settings=settings, book=book, client=self.client(site, settings, book)
            )

    def client(self, site: Site, settings: Bitrix24 | AmoCrm, book: DealBook) -> CrmClient | None:
        """Return what talks with a CRM, None when nothing is configured to do it with."""
        base = address_of(settings)
        if base is None:
            return None
        from closedloop.outbound import Outbound  # noqa: PLC0415 - see above

        outbound = Outbound(private=settings.private_address)
        self.outbounds.append(outbound)
        if isinstance(settings, Bitrix24):
            api = bitrix24_api(settings.session_field, with_steps=needs_steps(site))
            return CrmClient(api, base, outbound)
        authorize = AmoToken(site.name, settings, outbound, book.keeper.pool, self.intake.sealer)
        self.tokens.append(authorize)
        return CrmClient(amocrm_api(settings.session_field), base, outbound, authorize)

    def asked(self, site: str, crm: str | None = None) -> list[Crm]:
        """Return the CRMs of a site that can be asked, or the one that is named.

        Raises OperatorError when there is none, with what has to be set.
        """
        if site not in self.of:
            raise OperatorError(f"there is no site {site}; known are: {', '.join(self.of)}")
        known = self.of[site]
        if crm is not None and crm not in known:
            raise OperatorError(f"there is no CRM {crm}; known are: {', '.join(known)}")
        wanted = [one for name, one in known.items() if crm in {None, name}]
        found = [one for one in wanted if one.client is not None]
        if not found:
            needed = ", or ".join(NEEDED[one.name] for one in wanted)
            raise OperatorError(
                f"{crm or 'no CRM'} of site {site} {'cannot' if crm else 'can'} be asked: set {needed}"
            )
        return found

    def loops(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield the loops of a worker with their names."""
        for site, crms in self.of.items():
            yield f"inbox-{site}", inbox_reader(self, site).run()
            for crm in crms.values():
                if crm.client is not None:
                    yield f"readback-{site}-{crm.name}", DealReader(crm.book, crm.client).run()
                    yield f"sweep-{site}-{crm.name}", Sweeper(crm.book, crm.client, crm.every).run()
                    if crm.settings.write_back != WriteBack():
                        writer = BackWriter(crm.book, crm.client, crm.settings.write_back)
                        yield f"writeback-{site}-{crm.name}", writer.run()

    async def close(self) -> None:
        """Close all connections to CRMs."""
        for token in self.tokens:
            await token.close()
        for outbound in self.outbounds:
            await outbound.close()


def inbox_reader(crms: Crms, site: str) -> InboxReader:
    """Return what works on the webhooks of one site."""
    sources = {
        crm.name: Source(
            webhooks=webhooks_of(crm.name, crm.site.zone), book=crm.book, can_be_asked=crm.client is not None
        )
        for crm in crms.of[site].values()
    }
    return InboxReader(crms.shape, crms.intake, crms.sites[site], sources)


def address_of(settings: Bitrix24 | AmoCrm) -> str | None:
    """Return where a CRM is asked, None when that is not configured or there is nothing to be believed by."""
    if isinstance(settings, Bitrix24):
        return settings.rest_url
    return settings.base_url if settings.access_token or settings.refresh_token else None


def needs_steps(site: Site) -> bool:
    """Return whether a goal of this site depends on stages that a deal has passed."""
    return any(goal.on not in {"created", "won", "lost"} for goal in site.goals)


def trust_of(site: Site, crm: str, *, has_key: bool) -> Trust:
    """Return what a webhook of this CRM is believed by."""
    if crm == "bitrix24":
        settings = site.bitrix24 or Bitrix24()
        portals = (settings.member_id,) if settings.member_id else ()
        return Trust(has_key=has_key, tokens=settings.application_tokens, accounts=portals)
    return Trust(has_key=has_key, accounts=(site.amocrm or AmoCrm()).accounts)
