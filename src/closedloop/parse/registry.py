"""Which CRMs there are: the one place where a new one is named."""

from zoneinfo import ZoneInfo

from closedloop.parse.base import CrmApi, Webhooks
from closedloop.parse.crm.amocrm import AmoCrmWebhooks
from closedloop.parse.crm.bitrix24 import Bitrix24Webhooks
from closedloop.parse.rest.amocrm import AmoCrmApi
from closedloop.parse.rest.bitrix24 import Bitrix24Api

CRMS = ("bitrix24", "amocrm")


def webhooks_of(crm: str, zone: ZoneInfo) -> Webhooks:
    """Return how the webhooks of one CRM are read; dates without a zone are in `zone`."""
    return Bitrix24Webhooks(zone) if crm == "bitrix24" else AmoCrmWebhooks()


def bitrix24_api(session_field: str | None, *, with_steps: bool) -> CrmApi:
    """Return how one portal of Bitrix24 is asked."""
    return Bitrix24Api(session_field=session_field, with_steps=with_steps)


def amocrm_api(session_field: str | None) -> CrmApi:
    """Return how one account of amoCRM is asked."""
    return AmoCrmApi(session_field=session_field)
