"""Money finds its visit by what stands in a CRM's fields: what is there is found, and nothing invented."""

# ruff: noqa: RUF001 - owners name their fields in Russian

from html import unescape
from time import process_time
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from closedloop.domain.deal import Finding
from closedloop.parse.search import (
    best_first,
    contact_candidates,
    field_candidates,
    find_in_fields,
    find_in_text,
    is_same_name,
    kind_of,
    text_candidates,
)

SESSION = "9f1c2b1e-4d5a-4c3b-8a7e-1f2d3c4b5a69"
OTHER = "0a1b2c3d-1111-4222-8333-444455556666"
VISITOR = "1741000000123456789"


def values(findings: list[Finding], kind: str = "session_id") -> list[str]:
    """Return what was found of one kind, in its order."""
    return [finding.value for finding in findings if finding.kind == kind]


@pytest.mark.parametrize(
    "name",
    [
        *("session_id", "ta_session_id", "SESSION_ID", "Session ID", "sessionId", "SessionID", "sessionid"),
        *("UF_CRM_SESSION_ID", "UF_CRM_SESSION", "UF_CRM_5_TA_SESSION_ID", "session-id", "session_id_2"),
        *("ID сессии", "Сессия", "Идентификатор сессии", "ID сессии сайта (не менять)", "Session UUID"),
    ],
)
def test_session_is_found_by_any_usual_name(name: str) -> None:
    """Owners name the field as they like; the form's hidden field is session_id."""
    assert find_in_fields([(name, "sess-1")], "deal 662") == [
        Finding(kind="session_id", value="sess-1", place=f"deal 662, {name}")
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("ym_uid", "_ym_uid", "_YM_UID", "UF_CRM_YM_UID", "ymUid", "ClientID", "client_id", "clientId"),
        *("Client ID Метрики", "ID клиента Метрики", "Яндекс ClientID", "Metrika Client ID"),
    ],
)
def test_client_id_is_found_by_any_usual_name(name: str) -> None:
    """Without a session the ClientID leads to the visitor's latest one."""
    assert values(find_in_fields([(name, VISITOR)], "deal 1"), "ym_uid") == [VISITOR]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("yclid", "yclid"),
        ("YCLID", "yclid"),
        ("UF_CRM_YCLID", "yclid"),
        ("Google gclid", "gclid"),
        ("rb_clickid", "rb_clickid"),
        ("Calltouch yclid", "yclid"),
    ],
)
def test_click_id_is_found_by_its_name(name: str, kind: str) -> None:
    """A click id leads to the visit that the click began."""
    assert values(find_in_fields([(name, "15378091204")], "deal 1"), kind) == ["15378091204"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "roistat",
            "ROISTAT",
            "GCLIENTID",
            "GA Client ID",
            "_YM_COUNTER",
            "PHPSESSID",
            "Calltouch session id",
        ),
        *("ysclid", "session_start", "Число сессий", "Клиент", "Client", "x" * 200),
    ],
)
def test_foreign_name_is_no_identifier(name: str) -> None:
    """Other programs number their own sessions and clients; crediting by them is a wrong row."""
    assert kind_of(name) is None


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "null",
            "undefined",
            "{=Document:UF_CRM_X}",
            "{{session_id}}",
            "%session_id%",
            "[[session]]",
        ),
        *(
            "0",
            "-",
            "Y",
            "false",
            "два слова",
            "two words",
            "00000000-0000-0000-0000-000000000000",
            "a\0bcd1",
        ),
    ],
)
def test_nothing_is_no_session(value: str) -> None:
    """A template that was not filled must not stand before an identifier that was."""
    assert find_in_fields([("session_id", value)], "deal 1") == []


@pytest.mark.parametrize(
    "value", ["12345", "79000000000", "GA1.2.1741000000.123", "1741000000123456789.5", "нет"]
)
def test_what_is_no_client_id_is_passed_over(value: str) -> None:
    """A code tells the purpose of a field, not its content: a shop kept the numbers of its orders there."""
    assert find_in_fields([("_YM_UID", value)], "deal 1") == []


def test_configured_field_goes_before_all_others() -> None:
    """The owner knows where the session stands."""
    fields = [("session_id", "sess-1"), ("UF_CRM_1721244482", "sess-2")]

    found = find_in_fields(fields, "deal 1", session_field="UF_CRM_1721244482")

    assert values(found) == ["sess-2", "sess-1"]


@pytest.mark.parametrize("spelling", ["UF_CRM_1721", "ufCrm_1721", "uf_crm_1721"])
def test_configured_field_is_known_in_any_spelling(spelling: str) -> None:
    """Bitrix24 spells one field in two ways."""
    assert is_same_name("UF_CRM_1721", spelling)
    assert values(find_in_fields([(spelling, "any-id-1")], "deal 1", session_field="UF_CRM_1721")) == [
        "any-id-1"
    ]


def test_uuid_under_another_name_is_the_last_resort() -> None:
    """Accounting programs keep UUIDs of their own, so what is named goes first."""
    fields = [("UTM_CONTENT", OTHER), ("UF_CRM_7", SESSION), ("UTM_TERM", "buy"), ("session_id", "sess-1")]

    assert values(find_in_fields(fields, "deal 1")) == ["sess-1", SESSION, OTHER]


def test_one_value_is_found_once_in_its_best_place() -> None:
    """A field comes under its code and its label."""
    fields = [("UF_CRM_7", SESSION), ("Session ID", SESSION)]

    assert find_in_fields(fields, "deal 1") == [
        Finding(kind="session_id", value=SESSION, place="deal 1, Session ID")
    ]


@pytest.mark.parametrize(
    "address",
    [
        "https://shop.example/?utm_source=ya&yclid=15378091204&session_id=" + SESSION,
        "https://shop.example/?utm_source=ya&amp;yclid=15378091204&amp;ta_session_id=" + SESSION + "#x",
        "/catalog?yclid=15378091204&region_name=Moscow&session_id=" + SESSION,
        "https://go.example/?to=https%3A%2F%2Fshop.example%2F%3Fyclid%3D15378091204%26session_id%3D"
        + SESSION,
    ],
)
def test_address_in_a_field_is_searched(address: str) -> None:
    """Landing page and referrer carry the click id, escaped by the CRM or by a redirect."""
    found = find_in_fields([("Посадочная страница", address)], "lead 365")

    assert values(found, "yclid") == ["15378091204"]
    assert values(found) == [SESSION]


def test_code_of_a_messenger_is_found_anywhere() -> None:
    """The visitor sends it as a message, and the CRM makes it a field or a title."""
    found = find_in_fields([("Сообщение", "Здравствуйте! Код TA_0123456789ab")], "deal 1")

    assert values(found, "ta_code") == ["ta_0123456789ab"]


@pytest.mark.parametrize(
    "text",
    [
        f"session_id: {SESSION}",
        f"Name: Anna\nsession_id: {SESSION}\nphone: +7",
        f"Имя: Анна<br>session_id: {SESSION}<br />Телефон: 1",
        f"[b]session_id:[/b] {SESSION}\n[b]Имя[/b]: Анна",
        f"<p>session_id = {SESSION}</p>",
        f"Заявка с сайта; session_id={SESSION}; tranid=1:2",
        f'{{"session_id": "{SESSION}", "x": 1}}',
        f"ID сессии - {SESSION}",
        f"Session ID\n{SESSION}",
        f"session_id:<br>{SESSION}",
        f"&lt;br&gt;session_id: {SESSION}",
        f"[url=https://shop.example/?session_id={SESSION}]страница[/url]",
        f'<a href="https://shop.example/?session_id={SESSION}">x</a>',
    ],
)
def test_session_is_found_in_a_comment(text: str) -> None:
    """What Tilda has no field for lands in the comment, in whatever markup the CRM keeps."""
    assert find_in_text(text, "lead 365, comment") == [
        Finding(kind="session_id", value=SESSION, place="lead 365, comment")
    ]


def test_comment_of_a_form_gives_all_identifiers() -> None:
    """The body of a form is poured into the comment as it came."""
    text = f"Name: Anna\nym_uid: {VISITOR}\nyclid: 15378091204\nroistat: 100\nta_code: ta_0123456789ab"

    found = find_in_text(text, "deal 1, comment")

    assert {(finding.kind, finding.value) for finding in found} == {
        ("ym_uid", VISITOR),
        ("yclid", "15378091204"),
        ("ta_code", "ta_0123456789ab"),
    }


@pytest.mark.parametrize(
    "text",
    [
        *("", "session_id:", "session_id: undefined", "session_id: {{session_id}}", "session_id:\nAnna"),
        *("session_id: \nyclid: ", "Сессия: перенесена", "Перезвонить в 15:00", "https://shop.example/?a=1"),
        "php_session_id=abc123def",
    ],
)
def test_comment_without_identifiers_gives_nothing(text: str) -> None:
    """A word of a manager must not be taken for an id."""
    assert find_in_text(text, "deal 1, comment") == []


def test_unnamed_uuid_of_a_comment_goes_last() -> None:
    """It may be the session, and may be the number of a payment."""
    found = find_in_text(f"Платёж: {OTHER}\nsession_id: {SESSION}", "deal 1, comment")

    assert values(found) == [SESSION, OTHER]


def test_places_are_sorted_together() -> None:
    """A named field of the lead is more certain than a comment of the deal."""
    candidates = [
        *text_candidates(f"session_id: {OTHER}", "deal 1, comment"),
        *field_candidates([("session_id", SESSION)], "lead 2"),
    ]

    assert [finding.place for finding in best_first(candidates)] == ["lead 2, session_id", "deal 1, comment"]


def test_every_phone_and_email_of_a_contact_is_found() -> None:
    """Any of them may be the one that was typed into the form."""
    fields = [
        ("PHONE", "8 (900) 000-00-00"),
        ("PHONE", "+79111111111"),
        ("EMAIL", "Anna@Shop.example"),
        ("PHONE", ""),
    ]

    found = best_first(contact_candidates(fields, "contact 84"))

    assert [(finding.kind, finding.value) for finding in found] == [
        ("phone", "+79000000000"),
        ("phone", "+79111111111"),
        ("email", "anna@shop.example"),
    ]
    assert found[0].place == "contact 84, PHONE"


ALPHABET = "sesion_idymucltagb :=-&;?%<>[]{}#|\n\r\"'0123456789aé\u017f\u212aСя/."
WILD = st.one_of(
    st.text(),
    st.text(ALPHABET, max_size=120),
    st.lists(
        st.sampled_from(
            [
                *(
                    "session_id",
                    "ym_uid",
                    "_ym_uid",
                    "yclid",
                    "=",
                    ":",
                    " ",
                    "&",
                    "&amp;",
                    "<br>",
                    "\n",
                    "%3D",
                ),
                *("[url=", "]", SESSION, VISITOR, "ta_0123456789ab", "https://a.example/?", "Сессия"),
            ]
        ),
        max_size=12,
    ).map("".join),
)


@example([("\u017fession_id", "x")], "\u017fession_id=abcd1")
@given(st.lists(st.tuples(WILD, WILD), max_size=4), WILD)
def test_nothing_is_invented(fields: list[tuple[str, str]], text: str) -> None:
    """A row must be explained by what really stood in the CRM."""
    told = [value for _, value in fields] + [text]
    versions = [version for one in told for version in (one, unescape(one), unquote(unescape(one)))]
    spelled = "\n".join([*versions, *map(str.lower, versions)])

    found = [*find_in_fields(fields, "deal 1", session_field="x"), *find_in_text(text, "deal 1, comment")]

    assert [finding for finding in found if finding.value not in spelled] == []


@pytest.mark.parametrize(
    "part", ["<", "[", "session_id", " ", "session_id:", "&", "%", "-", "<br", "\n", "[a="]
)
def test_long_text_is_searched_quickly(part: str) -> None:
    """Whoever writes into a form must not hold up the reading of all deals."""
    began = process_time()

    find_in_text(part * 100_000, "deal 1, comment")

    assert process_time() - began < 2
