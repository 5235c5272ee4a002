"""Webhooks of one Bitrix24 portal, made from pairs, and the recorded ones."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from closedloop.parse.base import CrmRequest

RECORDED = Path(__file__).resolve().parent / "recorded" / "bitrix24"
NOW = datetime(2025, 3, 8, 12, 20, 2, tzinfo=UTC)
SECONDS = str(int(NOW.timestamp()))
FORM = "application/x-www-form-urlencoded"
TOKEN, APPLICATION = "demoapplicationtoken000000000001", "demoapplicationtoken000000000002"
MEMBER = "00112233445566778899aabbccddeeff"
SESSION, YM_UID = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13", "1741000000123456789"
DEAL = {"document_id[0]": "crm", "document_id[1]": "CCrmDocumentDeal", "document_id[2]": "DEAL_662"}


def event(name: str = "ONCRMDEALUPDATE", **other: str) -> dict[str, str]:
    """Return the pairs of an event; in the names of `other` `__` stands before what is in brackets."""
    told = {"event": name, "data__FIELDS__ID": "662", "ts": SECONDS, "auth__member_id": MEMBER}
    told |= {"auth__application_token": TOKEN} | other
    return {bracketed(key): value for key, value in told.items()}


def bracketed(name: str) -> str:
    """Return `data[FIELDS][ID]` for `data__FIELDS__ID`."""
    head, *inner = name.split("__")
    return head + "".join(f"[{part}]" for part in inner)


def request(
    body: dict[str, str] | bytes, *, query: str = "", received_at: datetime = NOW, content_type: str = FORM
) -> CrmRequest:
    """Return a webhook as the inbox keeps it."""
    raw = body if isinstance(body, bytes) else urlencode(body).encode()
    return CrmRequest(query=query.encode(), content_type=content_type, body=raw, received_at=received_at)


def recorded(name: str) -> CrmRequest:
    """Return a recorded webhook as the inbox keeps it, without the site's key."""
    head, _, body = (RECORDED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    query = head.split(b" ")[1].partition(b"?")[2].removeprefix(b"key=demo-url-key-11").removeprefix(b"&")
    return CrmRequest(query=query, content_type=FORM, body=body, received_at=NOW)
