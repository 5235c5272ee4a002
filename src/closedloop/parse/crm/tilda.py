"""The form webhook of Tilda: a request's bytes to the lead in it. Source: docs/protocols/tilda.md, 8.

A lead is never refused because a visitor mistyped something: what cannot be read is simply not known.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, cast
from urllib.parse import unquote, urlencode

import msgspec

from closedloop.domain.identity import email_address, phone_e164
from closedloop.domain.ids import CLICK_IDS, MAX_CLICK_ID, find_code, read_ym_uid
from closedloop.domain.money import read_amount
from closedloop.errors import CallerError
from closedloop.parse.bodies import broken_json, read_body
from closedloop.parse.fields import MAX_TEXT, is_nothing

MAX_BYTES = 1024 * 1024
MAX_FIELDS = 200
MAX_VALUE = 2000

# Cookies that lead to a visitor; all others are nobody's business here.
KEPT_COOKIES = re.compile(r"_ym_uid|TILDAUTM|_ga(?:_[A-Z0-9]+)?|_fbp|_fbc")
SERVICE = {"tranid", "formid", "formname", "cookies", "payment", "test", "ma_name", "ma_email", "ma_phone"}
MARK = re.compile(r"utm_[a-z_]{1,30}")
# Tilda's own names and what owners type; a second field of a kind has a number.
PHONE_NAMES = re.compile(
    r"(?:phone|tel|telephone|mobile|телефон|номер[_ ]телефона|тел)(?:_\d+)?", re.IGNORECASE
)
EMAIL_NAMES = re.compile(r"(?:e-?mail|mail|почта|электронная[_ ]почта)(?:_\d+)?", re.IGNORECASE)
PHONE_SHAPE = re.compile(r"\+?[\d\s()-]{10,25}")

Fields = list[tuple[str, Any]]


class TildaOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that came with a lead; `is_paid` only when the payment system has confirmed it."""

    order_id: str | None
    amount: Decimal | None
    is_paid: bool


class TildaLead(msgspec.Struct, frozen=True, kw_only=True):
    """One form that was sent; None for what the request does not carry."""

    is_test: bool
    has_key: bool
    session_id: str | None
    ym_uid: str | None
    click_ids: dict[str, str]
    marks: dict[str, str]
    phone: str | None  # E.164
    email: str | None
    code: str | None
    transaction_id: str | None
    form_id: str | None
    form_name: str | None
    order: TildaOrder | None
    fields: dict[str, str]  # what the visitor typed, by the owner's names
    digest: bytes
    kept_body: bytes  # as it came, less the site's key and other people's cookies


def read_tilda(content_type: str, body: bytes, *, is_key: Callable[[str], bool]) -> TildaLead:
    """Return the lead of one request; whatever `is_key` says is the site's key is taken out of it.

    A form or JSON, told apart by its content. Raises CallerError for a body that is neither.
    """
    pairs, is_json = read_pairs(content_type, body)
    clean = [(name, value) for name, value in pairs if not is_secret(value, is_key)]
    kept = [(name, kept_cookies(value) if name.lower() == "cookies" else value) for name, value in clean]
    texts = [(name, text) for name, value in kept if (text := as_text(value)) is not None]
    cookies = read_cookies(texts)
    kept_body = body if kept == pairs else write_pairs(kept, is_json=is_json)
    typed = typed_fields(texts)
    return TildaLead(
        is_test=[(name, as_text(value)) for name, value in clean] == [("test", "test")],
        has_key=len(clean) < len(pairs),
        session_id=identifier(texts, "session_id"),
        ym_uid=client_id(identifier(texts, "ym_uid")) or client_id(cookies.get("_ym_uid")),
        click_ids={name: value for name in CLICK_IDS if (value := identifier(texts, name, MAX_CLICK_ID))},
        marks=read_marks(texts, cookies),
        phone=find_phone(typed),
        email=find_email(typed),
        code=next(filter(None, (find_code(value) for value in typed.values())), None),
        transaction_id=identifier(texts, "tranid"),
        form_id=identifier(texts, "formid"),
        form_name=identifier(texts, "formname"),
        order=read_order(kept),
        fields=typed,
        digest=hashlib.sha256(kept_body).digest(),
        kept_body=kept_body,
    )


def read_pairs(content_type: str, body: bytes) -> tuple[Fields, bool]:
    """Return the names and values in their order, and whether they came as JSON. Raises CallerError."""
    found = read_body(body, content_type, max_bytes=MAX_BYTES)
    if found.is_array:
        raise CallerError("body", "is a list: one form comes in each request")
    if not found.objects:
        return [(name, value) for name, value in found.fields], False
    document = found.objects[0]
    try:
        # Numbers stay the digits that were sent: a ClientID does not fit into a float.
        told = json.loads(document, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise broken_json(document, error) from error
    return list(cast("dict[str, Any]", told).items()), True


def write_pairs(pairs: Fields, *, is_json: bool) -> bytes:
    """Return a body of these pairs that `read_pairs` reads again."""
    if is_json:
        return json.dumps(dict(pairs), ensure_ascii=True).encode()
    return urlencode(pairs).encode()


def is_secret(value: object, is_key: Callable[[str], bool]) -> bool:
    """Return whether a value is the site's key, as it is or behind `Bearer`."""
    if not isinstance(value, str):
        return False
    told = value.strip()
    return bool(told) and (is_key(told) or is_key(told.removeprefix("Bearer ").strip()))


def as_text(value: object) -> str | None:
    """Return a value as one text without NUL; None for what is none."""
    if isinstance(value, bool):
        return "yes" if value else None
    return value.replace("\0", "") if isinstance(value, str) else None


def identifier(texts: Iterable[tuple[str, str]], name: str, limit: int = MAX_TEXT) -> str | None:
    """Return the first usable value under a name in any case: an owner may have typed `Session_ID`."""
    for key, value in texts:
        told = value.strip()
        if key.lower() == name and not is_nothing(told, is_amount=False) and len(told) <= limit:
            return told
    return None


def client_id(text: str | None) -> str | None:
    """Return Metrica's ClientID, None for what is not whole digits."""
    if text is None:
        return None
    try:
        found = read_ym_uid(text)
    except CallerError:
        return None
    return found.digits if found.interval is None else None


def kept_cookies(value: object) -> str:
    """Return a string of cookies with only those that lead to a visitor."""
    parts = value.split(";") if isinstance(value, str) else []
    return "; ".join(part.strip() for part in parts if KEPT_COOKIES.fullmatch(part.partition("=")[0].strip()))


def read_cookies(texts: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return the cookies that came in the field COOKIES."""
    told = next((value for name, value in texts if name.lower() == "cookies"), "")
    return {
        name.strip(): value.strip() for name, _, value in (part.partition("=") for part in told.split(";"))
    }


def read_marks(texts: Iterable[tuple[str, str]], cookies: Mapping[str, str]) -> dict[str, str]:
    """Return the utm marks: the request's own, else those of Tilda's cookie, which is escaped twice."""
    own = {name.lower(): value for name, value in texts if MARK.fullmatch(name.lower()) and value}
    if own:
        return own
    parts = (part.partition("=") for part in unquote(cookies.get("TILDAUTM", "")).split("|||"))
    return {
        name: unquote(value.partition("#")[0])[:MAX_VALUE] for name, _, value in parts if MARK.fullmatch(name)
    }


def typed_fields(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what the visitor typed; of two fields of one name the filled one."""
    found: dict[str, str] = {}
    for name, value in texts:
        low = name.lower()
        if low in SERVICE or low in {"session_id", "ym_uid", *CLICK_IDS} or MARK.fullmatch(low):
            continue
        if low.startswith("payment[") or (name not in found and len(found) >= MAX_FIELDS):
            continue
        found[name] = found.get(name) or value[:MAX_VALUE]
    return found


def find_phone(typed: Mapping[str, str]) -> str | None:
    """Return the phone: of a field that is called so, else of one that holds nothing but a phone."""
    named = [value for name, value in typed.items() if PHONE_NAMES.fullmatch(name)]
    shaped = [value for value in typed.values() if PHONE_SHAPE.fullmatch(value.strip())]
    return next(filter(None, map(phone_e164, [*named, *shaped])), None)


def find_email(typed: Mapping[str, str]) -> str | None:
    """Return the e-mail: of a field that is called so, else of one that holds nothing but an address."""
    named = [value for name, value in typed.items() if EMAIL_NAMES.fullmatch(name)]
    shaped = [value for value in typed.values() if "@" in value and not re.search(r"\s", value.strip())]
    return next(filter(None, map(email_address, [*named, *shaped])), None)


def read_order(pairs: Fields) -> TildaOrder | None:
    """Return the order in any of the shapes that Tilda's settings give it; None when there is none."""
    payment = next((value for name, value in pairs if name.lower() == "payment"), None)
    if isinstance(payment, str):
        try:
            payment = json.loads(payment, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            payment = None
    if not isinstance(payment, dict):
        flat = ((name.lower(), value) for name, value in pairs if name.lower().startswith("payment["))
        payment = {name[8:-1]: value for name, value in flat if name.endswith("]") and name.count("[") == 1}
    told = cast("dict[str, Any]", payment)
    if not told:
        return None
    return TildaOrder(
        order_id=as_text(told.get("orderid")) or None,
        amount=money(as_text(told.get("amount"))),
        is_paid=(as_text(told.get("systranid")) or "0").strip() not in {"", "0"},
    )


def money(text: str | None) -> Decimal | None:
    """Return an amount, None for what is none."""
    try:
        return None if text is None else read_amount(text.strip(), key="payment[amount]").value
    except CallerError:
        return None
