"""The form webhook of Tilda: a body to the lead in it, and to what of the body may be kept.

A lead is never refused for what a visitor typed: a bad phone, e-mail, id or amount is None. The setting of
the receiver decides on form or JSON, with or without arrays, so the content is looked at and its label not.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from urllib.parse import unquote, unquote_plus

import msgspec

from closedloop.domain.ids import (
    CLICK_IDS,
    MAX_CLICK_ID,
    MAX_DIGITS,
    MESSENGER_CODE,
    find_code,
    rounded_interval,
)
from closedloop.domain.money import Amount, read_amount, read_number
from closedloop.errors import CallerError, TooLargeError
from closedloop.parse.bodies import JsonNumber, query_fields, read_body
from closedloop.parse.contacts import find_email, find_phone
from closedloop.parse.fields import MAX_TEXT, is_nothing, trimmed
from closedloop.parse.nodes import JsonObject, Node, Pairs, form_text, json_text, parse_json, text_of

# A cart of a hundred products in escaped brackets is larger than the 64 KiB of other bodies.
MAX_BYTES = 1024 * 1024
MAX_FIELDS = 200
MAX_MARKS = 50
MAX_VALUE = 2000
# Whoever has no key is read too, as the key may stand in the body: this bounds what that costs.
MAX_PARTS = 10_000
_MAX_COOKIES = 300
_MAX_DEPTH = 64
_BOM = b"\xef\xbb\xbf"

# Names under which owners send a key; a value under one of the first is a secret even if it is not ours.
_SECRET_NAMES = frozenset({"x-webhook-key", "x-api-key", "apikey", "api_key", "api-key", "authorization"})
_KEY_NAMES = _SECRET_NAMES | {"key", "token"}
_COOKIE_FIELDS = frozenset({"cookies", "tildaspec-cookie"})
_KEPT_COOKIES = frozenset({"_ym_uid", "TILDAUTM", "_ga", "_fbp", "_fbc"})
_IDS = frozenset(
    {"session_id", "ym_uid", "tranid", "formid", "formname", "form-spec-comments", "formservices"}
    | {"ma_name", "ma_email", "ma_phone"}  # of the site's member area
    | {MESSENGER_CODE, *CLICK_IDS}
)
_MARK = re.compile(r"utm_[a-z0-9_]{1,60}")
_PAYMENT = re.compile(r"payment\[([^\[\]]+)\](.*)", re.IGNORECASE | re.DOTALL)

Texts = list[tuple[str, str]]


class TildaOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What an order of Tilda's cart says; `is_paid` when the payment system gave its own number for it."""

    order_id: str | None
    amount: Decimal | None
    currency: str | None = None
    is_paid: bool


class TildaLead(msgspec.Struct, frozen=True, kw_only=True):
    """One submission of a form.

    `has_key`: some value of the body is the site's key. `fields` are what the visitor typed, by the owner's
    names with `_` for blanks: `{"Ваше_имя": "Анна"}`. `marks` are `utm_*` of one source, the body or else the
    cookie. `kept_body` may be stored: without keys, COOKIES cut to what is read here; it is read again to an
    equal lead, under the content type that it came with. `digest` is the SHA-256 of `kept_body`.
    """

    is_test: bool
    has_key: bool
    session_id: str | None
    ym_uid: str | None
    click_ids: dict[str, str]
    marks: dict[str, str]
    phone: str | None
    email: str | None
    code: str | None
    transaction_id: str | None
    form_id: str | None
    form_name: str | None
    order: TildaOrder | None
    fields: dict[str, str]
    digest: bytes
    kept_body: bytes


def read_tilda(content_type: str, body: bytes, *, is_key: Callable[[str], bool]) -> TildaLead:
    """Return the lead of a form, JSON under any label, or multipart (which is kept as a form).

    `is_key` tells whether a text is the site's key; it is asked for every name and value. Raises CallerError
    for bad UTF-8, broken JSON and JSON that is not one object; TooLargeError above 1 MiB.
    Source: docs/protocols/tilda.md, 6 and 8.
    """
    document = _document(content_type, body)
    sieve = _Sieve(is_key)
    members = sieve.members(document.members, 0)
    if members == document.members and not document.is_rewritten:
        kept = body
    elif document.is_json:
        kept = json_text(JsonObject(members)).encode()
    else:
        kept = form_text((name, text_of(node)) for name, node in members).encode()
    return _lead(members, has_key=sieve.has_key, kept=kept)


def presented_in_body(content_type: str, body: bytes) -> list[str]:
    """Return the values of fields that are named like a key (`X-Webhook-Key`, `token`), `Bearer` left out.

    For telling a missing key from a wrong one; read_tilda finds the right one under any name. Raises as it.
    """
    told = ((name, _plain(text_of(node))) for name, node in _document(content_type, body).members)
    return [_without_bearer(value) for name, value in told if _folded(name) in _KEY_NAMES and value]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    members: Pairs
    is_json: bool
    is_rewritten: bool = False


class _Sieve:
    """Takes out of a body what must not be kept: keys wherever they stand, and most cookies."""

    def __init__(self, is_key: Callable[[str], bool]) -> None:
        self.is_key = is_key
        self.has_key = False
        self.parts = 0

    def is_secret(self, text: str) -> bool:
        told = _plain(text)
        bare = _without_bearer(told)
        found = bool(told) and (self.is_key(told) or (bare != told and self.is_key(bare)))
        self.has_key = self.has_key or found
        return found

    def count(self, parts: int) -> None:
        self.parts += parts
        if self.parts > MAX_PARTS:
            raise CallerError("body", f"has more than {MAX_PARTS} values")

    def members(self, pairs: Pairs, depth: int) -> Pairs:
        self.count(len(pairs))
        kept: Pairs = []
        for name, node in pairs:
            if self.drops(node) or self.is_secret(name) or _folded(name) in _SECRET_NAMES:
                continue
            is_cookies = _is_cookies(name, node)
            kept.append((name, self.cookies(text_of(node)) if is_cookies else self.node(node, depth + 1)))
        return kept

    def drops(self, node: Node) -> bool:
        return isinstance(node, str | JsonNumber) and self.is_secret(text_of(node))

    def node(self, node: Node, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise CallerError("body", "is nested too deeply")
        if isinstance(node, JsonObject):
            return JsonObject(self.members(node.members, depth))
        if isinstance(node, list):
            self.count(len(node))
            return [self.node(item, depth + 1) for item in node if not self.drops(item)]
        if isinstance(node, str) and (inner := _inner_json(node)) is not None:
            sifted = self.node(inner, depth + 1)
            return node if sifted == inner else json_text(sifted)
        return node

    def cookies(self, text: str) -> str:
        kept = [(name, value) for name, value in _cookies(text) if self.keeps_cookie(name, value)]
        return "; ".join(f"{name}={value}" for name, value in kept)

    def keeps_cookie(self, name: str, value: str) -> bool:
        texts = [value, *(mark for _, mark in _utm_cookie(value))]
        return not any([self.is_secret(text) for text in texts]) and (  # noqa: C419 - every one is asked
            name in _KEPT_COOKIES or name.startswith("_ga_")
        )


def _document(content_type: str, body: bytes) -> _Document:
    if len(body) > MAX_BYTES:
        raise TooLargeError("body", "is larger than 1024 KiB")
    content = body.removeprefix(_BOM)
    _check_parts(content, b"&", b",")
    if content.lstrip()[:1] in (b"{", b"["):
        return _Document(members=_one_object(content), is_json=True)
    if content.startswith(b"--") and content_type.strip().lower().startswith("multipart/form-data"):
        told = read_body(content, content_type)
        if told.objects:
            return _Document(members=_one_object(told.objects[0]), is_json=True, is_rewritten=True)
        pairs: Pairs = [(name, str(value)) for name, value in told.fields]
        return _Document(members=pairs, is_json=False, is_rewritten=True)
    return _Document(members=[(name, str(value)) for name, value in query_fields(content)], is_json=False)


def _check_parts(content: bytes, *separators: bytes) -> None:
    if max(map(content.count, separators)) > MAX_PARTS:
        raise CallerError("body", f"has more than {MAX_PARTS} values")


def _one_object(document: bytes) -> Pairs:
    node = parse_json(document)
    if isinstance(node, list) and len(node) == 1:
        node = node[0]
    if not isinstance(node, JsonObject):
        raise CallerError("body", "is not one JSON object")
    return node.members


def _inner_json(text: str) -> Node:
    """Return the JSON that stands in a text (Tilda's `payment`); None when it is another text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    document = text.encode()
    _check_parts(document, b",")
    try:
        return parse_json(document)
    except CallerError:
        return None


def _lead(members: Pairs, *, has_key: bool, kept: bytes) -> TildaLead:
    texts: Texts = []
    payment: Texts = []
    cookies: Texts = []
    for raw_name, node in members:
        name = _named(raw_name)
        if (of_payment := _payment(name, node)) is not None:
            payment += of_payment
        elif _is_cookies(raw_name, node):
            cookies += _cookies(_plain(text_of(node)))
        elif value := _plain(text_of(node)):
            texts.append((name, value))
    fields = _fields(texts)
    return TildaLead(
        is_test=[(name.lower(), value) for name, value in texts] == [("test", "test")] and not payment,
        has_key=has_key,
        session_id=_first(texts, "session_id"),
        ym_uid=_ym_uid([*_all(texts, "ym_uid"), *_all(cookies, "_ym_uid")]),
        click_ids={key: told for key in CLICK_IDS if (told := _first(texts, key, limit=MAX_CLICK_ID))},
        marks=_marks(texts)
        or _marks(mark for value in _all(cookies, "tildautm") for mark in _utm_cookie(value)),
        phone=find_phone(fields),
        email=find_email(fields),
        code=_code([*_all(texts, MESSENGER_CODE), *fields.values()]),
        transaction_id=_first(texts, "tranid"),
        form_id=_first(texts, "formid"),
        form_name=_first(texts, "formname"),
        order=_order(payment),
        fields=fields,
        digest=hashlib.sha256(kept).digest(),
        kept_body=kept,
    )


def _payment(name: str, node: Node) -> Texts | None:
    """Return the members of an order that this field tells, with texts for scalars; None if it tells none."""
    if match := _PAYMENT.fullmatch(name):
        return [(match[1].lower(), "" if match[2] else _plain(text_of(node)))]
    if name.lower() != "payment":
        return None
    if isinstance(node, str) and node.lstrip().startswith("{"):
        try:
            node = parse_json(node.encode())
        except CallerError as error:
            raise CallerError("payment", f"is broken JSON: {error}") from error
    if not isinstance(node, JsonObject):
        return None
    return [
        (member.lower(), "" if isinstance(value, list | JsonObject) else _plain(text_of(value)))
        for member, value in node.members
    ]


def _order(payment: Texts) -> TildaOrder | None:
    if not payment:
        return None
    amount = next((told for text in _all(payment, "amount") if (told := _amount(text))), None)
    number = _first(payment, "systranid") or ""
    return TildaOrder(
        order_id=_first(payment, "orderid"),
        amount=amount.value if amount else None,
        currency=amount.currency if amount else None,
        is_paid=bool(number.strip("0")),
    )


def _amount(text: str) -> Amount | None:
    """Return a sum of Tilda, whose point is a decimal one; else as people write it."""
    try:
        return Amount(value=read_number(text))
    except CallerError:
        pass
    try:
        return read_amount(text)
    except CallerError:
        return None


def _ym_uid(texts: Iterable[str]) -> str | None:
    """Return the first whole id; one that looks rounded gives way to another that it may have been."""
    whole = [text for text in texts if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS]
    first, *others = [text for text in whole if text.strip("0")] or [""]
    low, high = rounded_interval(first) or ("", "")
    exact = (text for text in others if len(text) == len(first) and low <= text <= high)
    return next(exact, first) or None


def _marks(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    marks: dict[str, str] = {}
    for raw_name, value in pairs:
        name = raw_name.lower()
        if _MARK.fullmatch(name) and name not in marks and not is_nothing(value) and len(marks) < MAX_MARKS:
            marks[name] = value[:MAX_VALUE]
    return marks


def _fields(texts: Texts) -> dict[str, str]:
    """Return the owner's fields; several answers under one name are joined as Tilda joins them."""
    told: dict[str, list[str]] = {}
    for name, value in texts:
        if _is_service(name.lower()) or (is_nothing(value) and not any(map(str.isspace, value))):
            continue
        if name in told or len(told) < MAX_FIELDS:
            told.setdefault(name, []).append(value)
    return {name: "; ".join(dict.fromkeys(values))[:MAX_VALUE] for name, values in told.items()}


def _code(texts: Iterable[str]) -> str | None:
    return next((code for text in texts if (code := find_code(text))), None)


def _is_service(name: str) -> bool:
    return name in _IDS or name.startswith("tildaspec-") or _MARK.fullmatch(name) is not None


def _is_cookies(name: str, node: Node) -> bool:
    """Tell Tilda's field from an owner's `Cookies` of a bakery, which has no `=` in it."""
    folded = _folded(name)
    return folded in _COOKIE_FIELDS and (
        name.strip() == "COOKIES" or folded != "cookies" or "=" in text_of(node)
    )


def _cookies(text: str) -> Texts:
    parts = (part.partition("=") for part in text.split(";")[:_MAX_COOKIES])
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _utm_cookie(value: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of TILDAUTM, escaped twice; the last may carry the `#hash` of the address."""
    for pair in unquote(value).split("|||")[:MAX_MARKS]:
        name, _, mark = pair.partition("=")
        yield name.strip(), _plain(unquote_plus(mark.partition("#")[0]))


def _first(pairs: Texts, key: str, *, limit: int = MAX_TEXT) -> str | None:
    return next((text for text in _all(pairs, key) if len(text) <= limit), None)


def _all(pairs: Texts, key: str) -> list[str]:
    return [text for name, text in pairs if name.lower() == key and not is_nothing(text)]


def _named(name: str) -> str:
    return _plain(name).replace(" ", "_").removesuffix("[]")[:MAX_TEXT]


def _folded(name: str) -> str:
    return _named(name).lower()


def _plain(text: str) -> str:
    """Return the trimmed text without NUL, which PostgreSQL cannot hold."""
    return trimmed(text.replace("\0", ""))


def _without_bearer(text: str) -> str:
    return trimmed(text[7:]) if text[:7].lower() == "bearer " else text
