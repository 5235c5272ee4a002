"""The OpenAPI 3.1 description of what answers here, built once; of the hook it says what the contract has."""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from litestar import MediaType, Response, get

from closedloop import __version__
from closedloop.domain.conversion import DEFAULT_GOAL
from closedloop.domain.ids import CLICK_IDS, MAX_CLICK_ID, MAX_DIGITS, MESSENGER_CODE
from closedloop.domain.reconcile import Kind
from closedloop.edge.http.answers import NOT_FOUND
from closedloop.edge.http.hook import PATH as HOOK_PATH
from closedloop.edge.http.reconcile import PATH as RECONCILE_PATH
from closedloop.errors import MissingIdError
from closedloop.parse.bodies import MAX_BYTES, MAX_ITEMS
from closedloop.parse.fields import MAX_TEXT
from closedloop.parse.registry import CRMS

PATH = "/api/v1/openapi.json"

Part = dict[str, Any]

TEXT_OR_DIGITS = ["string", "integer", "null"]


def text(
    description: str, *, types: list[str] = TEXT_OR_DIGITS, limit: int = MAX_TEXT, **more: object
) -> Part:
    """Return the schema of one key; null, an empty text and an unfilled placeholder are the key left out."""
    return {"type": types, "maxLength": limit, "description": description, **more}


# The keys of one conversion, with the types that are really taken.
KEYS: Mapping[str, Part] = {
    "session_id": text(
        "The session to credit: the value of the form's hidden field. An integer is read as its digits.",
        examples=["1732442400000-k3j9x2"],
    ),
    "ym_uid": text(
        "Yandex Metrica's ClientID, used when there is no session_id or none such is known: the visitor's "
        "latest session. Send it as text: as a number it does not survive JavaScript. One that was rounded "
        "on the way is repaired when exactly one session fits.",
        limit=MAX_DIGITS,
        minimum=0,
        exclusiveMaximum=10**MAX_DIGITS,
        examples=["1712345678901234567"],
    ),
    "goal_name": text("The goal that was reached.", default=DEFAULT_GOAL, examples=["payment_success"]),
    "goal_value": text(
        "Money, as a number or as people write it: 5000, `5 000,00`, `$1,245.50`. Kept as an exact decimal.",
        types=["number", "string", "null"],
        limit=80,
        default=0,
        examples=[5000, "5 000,00"],
    ),
    "currency": text("ISO 4217; default the site's.", types=["string", "null"], examples=["RUB"]),
    "deal_id": text(
        "The deal in the CRM. One deal reaches one goal once, for its whole life; a changed goal_value is a "
        "revision, not a second conversion.",
        examples=["662"],
    ),
    "event_id": text(
        "An id of this event. The same one again answers the same and changes nothing. Wins over the header "
        "Idempotency-Key.",
        examples=["evt_0001"],
    ),
    "occurred_at": text(
        "When it happened: ISO 8601, or Unix seconds; without an offset in the site's time zone. Default "
        "now; refused when in the future by more than a minute.",
        types=["string", "number", "null"],
        limit=100,
        examples=["2026-11-23T10:00:00+03:00", 1795417200],
    ),
    "phone": text("The buyer's phone; kept only as a keyed hash and sealed.", examples=["+79001234567"]),
    "email": text("The buyer's e-mail; kept only as a keyed hash and sealed.", types=["string", "null"]),
    "site": text("The site; only the one that the key belongs to is taken.", types=["string", "null"]),
    **{name: text("A click id of an advertising platform.", limit=MAX_CLICK_ID) for name in CLICK_IDS},
    MESSENGER_CODE: text(
        "The code of a messenger link, such as ta_0123456789ab, or a text that it stands in.",
        limit=MAX_CLICK_ID,
    ),
    "document_id": {
        "type": ["array", "string", "null"],
        "items": {"type": "string"},
        "description": "What a robot of Bitrix24 sends (in a form document_id[2]): DEAL_662 is deal_id 662.",
    },
}

CREDENTIALS: Mapping[str, Part] = {
    "webhookKey": {"type": "apiKey", "in": "header", "name": "X-Webhook-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey", "description": "As supabase-js sends it."},
    "queryKey": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "For senders that cannot set headers; it is masked in every log.",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "The key as password; any user name."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks, beside webhook-id and webhook-timestamp; for keys `whsec_…`.",
    },
}

UPDATED: Part = {
    "type": "object",
    "required": ["success", "updated_session"],
    "properties": {
        "success": {"const": True},
        "updated_session": {
            "type": ["integer", "string"],
            "description": "The session's id, as its table has it.",
        },
    },
    "additionalProperties": False,
}
UNMATCHED: Part = {
    "type": "object",
    "required": ["success", "error"],
    "properties": {"success": {"const": False}, "error": {"const": NOT_FOUND.decode()}},
    "additionalProperties": False,
}


def whole(properties: Mapping[str, Part]) -> Part:
    """Return the schema of an object that always has all of its properties, and no other."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


MONEY: Part = {"type": ["string", "null"], "examples": ["5000 RUB", "4500.50 RUB"]}
COMPARED: Mapping[str, Part] = {
    "Comparison": whole(
        {
            "in_crm": {"type": "integer", "minimum": 0, "description": "Goals reached there."},
            "here": {"type": "integer", "minimum": 0, "description": "How many of these are here."},
            "differences": {"type": "array", "items": {"$ref": "#/components/schemas/Difference"}},
        }
    ),
    "Difference": whole(
        {
            "kind": {
                "enum": list(get_args(Kind)),
                "description": "missing: reached in the CRM and not here; extra: here and not there; value: "
                "of different sums; no_session: on both sides, its visitor is not known.",
            },
            "deal_id": {"type": "string"},
            "goal": {"type": "string"},
            "in_crm": MONEY,
            "here": MONEY,
            "why": {"type": "string", "description": "A sentence, with what to do."},
        }
    ),
}

SCHEMAS: Mapping[str, Part] = {
    **COMPARED,
    "Conversion": {
        "type": "object",
        "properties": KEYS,
        "description": "Some identifier is needed: session_id, ym_uid, phone, email or a click id. "
        "Keys that are not listed are passed over.",
        "examples": [
            {"session_id": "1732442400000-k3j9x2", "goal_name": "payment_success", "goal_value": 5000}
        ],
    },
    "Conversions": {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Conversion"},
        "minItems": 1,
        "maxItems": MAX_ITEMS,
        "description": "Taken all or nothing.",
    },
    "Updated": UPDATED,
    "Results": {
        "type": "object",
        "required": ["success", "results"],
        "properties": {
            "success": {"const": True},
            "results": {
                "type": "array",
                "items": {"oneOf": [UPDATED, UNMATCHED]},
                "description": "One for each item of the array that was sent, in its order.",
            },
        },
        "additionalProperties": False,
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "description": "A sentence that names the key."},
            "index": {"type": "integer", "minimum": 0, "description": "The item of an array that is meant."},
        },
        "additionalProperties": False,
    },
}


def ref(name: str) -> Part:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(description: str, content: Mapping[str, Part], *headers: str) -> Part:
    """Return one answer; `headers` are those that it always has, all of them text."""
    return {
        "description": description,
        "headers": {name: {"required": True, "schema": {"type": "string"}} for name in headers},
        "content": {media_type: {"schema": schema} for media_type, schema in content.items()},
    }


def error(description: str, *headers: str) -> Part:
    """Return an answer of `{"error": …}`."""
    return answer(description, {"application/json": ref("Error")}, *headers)


HOOK_ANSWERS: Mapping[str, Part] = {
    "200": answer(
        "Recorded, durably. A repetition is answered with the same body.",
        {"application/json": {"oneOf": [ref("Updated"), ref("Results")]}},
    ),
    "400": answer(
        "The request cannot be read; nothing of it is counted.",
        {"text/plain": {"const": str(MissingIdError())}, "application/json": ref("Error")},
    ),
    "401": error("No credential in the request is a key of a site.", "WWW-Authenticate"),
    "404": answer(
        "No session matches. The conversion is recorded and is matched by itself when its session arrives.",
        {"text/plain": {"const": NOT_FOUND.decode()}},
    ),
    "413": error(f"The body is larger than {MAX_BYTES // 1024} KiB."),
    "429": error("Too many requests; come again after Retry-After.", "Retry-After"),
    "500": error("A fault of ours."),
    "503": error("The database is away; the sentence says whether it was kept.", "Retry-After"),
}
IDEMPOTENCY_KEY: Part = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Stands for event_id; in an array `#` and the item's place are added. So does webhook-id.",
    "schema": {"type": "string", "maxLength": MAX_TEXT},
}
REPORT_BODY: Part = {
    "description": "JSON, a form, or JSON labelled as text: the content decides, not the label. A value here "
    "wins over the same key in the query. The body may be left out.",
    "content": {
        "application/json": {"schema": {"oneOf": [ref("Conversion"), ref("Conversions")]}},
        "application/x-www-form-urlencoded": {"schema": ref("Conversion")},
        "multipart/form-data": {"schema": ref("Conversion")},
        "text/plain": {"schema": {"type": "string"}},
    },
}


def hook_operation(operation: str, summary: str) -> Part:
    """Return the part that POST and GET of the hook share."""
    query = [
        {"name": name, "in": "query", "schema": {"type": "string", "maxLength": schema["maxLength"]}}
        | {"description": schema["description"]}
        for name, schema in KEYS.items()
        if name != "document_id"
    ]
    return {
        "operationId": operation,
        "summary": summary,
        "security": [{name: list[str]()} for name in CREDENTIALS],
        "parameters": [*query, IDEMPOTENCY_KEY],
        "responses": HOOK_ANSWERS,
    }


def probe(operation: str, summary: str, responses: Mapping[str, Part]) -> Part:
    """Return the path of a GET without parameters that needs no key."""
    return {"get": {"operationId": operation, "summary": summary, "security": [], "responses": responses}}


def asked_day(name: str, description: str) -> Part:
    """Return the parameter of a day."""
    schema = {"type": "string", "format": "date", "examples": ["2026-11-01"]}
    return {"name": name, "in": "query", "required": True, "schema": schema, "description": description}


RECONCILE: Part = {
    "operationId": "reconcile",
    "summary": "Compare the CRM's deals of a period with ours. Nothing is changed; every deal that changed "
    "since the period began is asked for, which takes its time.",
    "security": [{name: list[str]()} for name in ("webhookKey", "bearer", "apikey", "basic")],
    "parameters": [
        asked_day("from", "The first day, in the site's time zone."),
        asked_day("to", "The last day."),
        {"name": "crm", "in": "query", "schema": {"enum": list(CRMS)}, "description": "Only this CRM."},
    ],
    "responses": {
        "200": answer(
            "One comparison for each CRM, by its name.",
            {"application/json": {"type": "object", "additionalProperties": ref("Comparison")}},
        ),
        "400": error("A day is missing or is none."),
        "401": error("No credential in a header is a key of a site.", "WWW-Authenticate"),
        "404": error("No CRM of the site can be asked; the sentence says what to configure."),
        "500": error("A fault of ours."),
        "502": error("The CRM refuses us until its owner acts; the sentence says how."),
        "503": error("The CRM or the database is away.", "Retry-After"),
    },
}


def status_of(*words: str) -> Part:
    """Return the schema of the two health checks."""
    return {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"enum": words}, "reason": {"type": "string"}},
        "additionalProperties": False,
    }


PATHS: Mapping[str, Part] = {
    HOOK_PATH: {
        "description": "The address, body and answers of the Supabase Edge Function that it replaces. Other "
        "methods are answered 405.",
        "post": hook_operation("reportConversion", "Report conversions of a CRM.")
        | {"requestBody": REPORT_BODY},
        "get": hook_operation(
            "reportConversionByAddress", "The same for senders that can only call an address."
        ),
        "head": {
            "operationId": "checkHook",
            "summary": "Does nothing.",
            "security": [],
            "responses": {"200": {"description": "The address is right."}},
        },
        "options": {
            "operationId": "preflightHook",
            "summary": "CORS; answered before authentication.",
            "security": [],
            "responses": {"200": answer("Any origin may send.", {"text/plain": {"const": "ok"}})},
        },
    },
    RECONCILE_PATH: {"get": RECONCILE},
    "/healthz": probe(
        "isAlive",
        "Whether the process lives.",
        {"200": answer("It does.", {"application/json": status_of("alive")})},
    ),
    "/readyz": probe(
        "isReady",
        "Whether it can serve: the database answers and the migrations are current.",
        {
            "200": answer("It can.", {"application/json": status_of("ready")}),
            "503": answer("It cannot.", {"application/json": status_of("not ready")}, "Retry-After"),
        },
    ),
    "/metrics": probe(
        "readMetrics",
        "For Prometheus.",
        {"200": answer("Its text format.", {"text/plain": {"type": "string"}})},
    ),
    PATH: probe(
        "describe",
        "This description.",
        {"200": answer("OpenAPI 3.1.", {"application/json": {"type": "object"}})},
    ),
}

DESCRIPTION: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "closedloop",
        "version": __version__,
        "summary": "Takes a deal won in a CRM back to the website session that earned it.",
    },
    "servers": [{"url": "/"}],
    "paths": PATHS,
    "components": {"schemas": SCHEMAS, "securitySchemes": CREDENTIALS},
}
ENCODED = msgspec.json.encode(DESCRIPTION)


@get(PATH, include_in_schema=False)
async def openapi() -> Response[bytes]:
    """Return the description as JSON."""
    return Response(ENCODED, media_type=MediaType.JSON)
