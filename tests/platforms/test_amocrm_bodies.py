"""What the fake account sends: the bytes of three generations of its sender and of the Digital Pipeline."""

# ruff: noqa: RUF001 - the recorded cards are Russian

from decimal import Decimal

import pytest

from fix_tools import REPOSITORY
from platforms.amocrm import AmoCrm
from platforms.amocrm_bodies import Generation
from platforms.amocrm_data import LOST, PIPELINE, WON, CustomField
from platforms.receiver import Receiver

SESSION_ID = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"


def recorded(name: str) -> tuple[list[str], bytes]:
    """Return the names of the headers and the body of a recorded request."""
    raw = (REPOSITORY / "tests" / "recorded" / "amocrm" / f"{name}.http").read_bytes()
    head, _, body = raw.partition(b"\r\n\r\n")
    return [line.split(":")[0].lower() for line in head.decode().split("\r\n")[1:]], body


def sent(receiver: Receiver, name: str) -> bool:
    """Return whether the last webhook that came is a recorded one, headers and body."""
    request = receiver.calls[-1].request
    assert (list(request.headers), request.body) == recorded(name)
    return True


def test_status_has_the_recorded_bytes(amocrm: AmoCrm, receiver: Receiver) -> None:
    """A session, tracking fields, a choice and a date without `[value]`."""
    amocrm.subscribe(receiver.url, ["status_lead"])
    for known in (
        CustomField(500101, "Сессия сайта"),
        CustomField(500102, "_ym_uid", "tracking_data", "_YM_UID"),
        CustomField(500103, "roistat", "tracking_data", "ROISTAT"),
        CustomField(500104, "Тип программы", "select", enums={"Стандарт": 853001}),
        CustomField(500105, "Дата оплаты", "date"),
    ):
        amocrm.add_field(known)
    amocrm.clock.set(1741000000)
    fields = {500101: SESSION_ID, 500102: "1741000000123456789", 500103: "139919", 500104: "Стандарт"}
    amocrm.create_lead(
        name="Заявка с сайта",
        status_id=41000003,
        price=Decimal("5000.90"),
        tags=["сайт"],
        fields={**fields, 500105: 1741381200},
    )
    amocrm.clock.set(1741436400)
    amocrm.move_lead(30100001, WON)

    amocrm.send()

    assert sent(receiver, "lead-status-won")


def test_several_leads_share_a_body(amocrm: AmoCrm, receiver: Receiver) -> None:
    """A parser that takes the first only loses the others."""
    amocrm.subscribe(receiver.url, ["status_lead"])
    amocrm.crm.add_pipeline(4500002, "Second", {41000003: "Paying"})
    for lead_id, created, name, price in ((3, 100, "Первая", 12000), (4, 200, "Вторая", 0)):
        amocrm.clock.set(1741000000 + created)
        amocrm.create_lead(
            id=30100000 + lead_id,
            name=name,
            price=Decimal(price),
            pipeline_id=4500001 if lead_id == 3 else 4500002,
            status_id=41000003,
        )
    amocrm.clock.set(1741436400)
    amocrm.move_lead(30100003, WON)
    amocrm.move_lead(30100004, LOST)

    amocrm.send([event for event in amocrm.pending if event.action == "status"], together=True)

    expected = recorded("lead-status-two-leads")[1].replace(b"date_create%5D=1741000000", b"date_create%5D=")
    body = receiver.calls[-1].request.body
    for moment in (b"1741000100", b"1741000200"):
        body = body.replace(b"date_create%5D=" + moment, b"date_create%5D=")
    assert body == expected


def test_every_kind_of_field_has_its_form(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Each of these broke somebody's parser."""
    amocrm.subscribe(receiver.url, ["update_lead"])
    amocrm.account.has_minor_units = True
    for known in (
        CustomField(500201, "Текст"),
        CustomField(500202, "Число", "numeric"),
        CustomField(500203, "Флажок", "checkbox"),
        CustomField(500204, "Список", "select", enums={"Стандарт": 853001}),
        CustomField(500205, "Мультисписок", "multiselect", enums={"Красный": 853010, "Синий": 853012}),
        CustomField(500206, "Дата", "date"),
        CustomField(500207, "Дата и время", "date_time"),
        CustomField(500208, "Ссылка", "url"),
        CustomField(500209, "Большой текст", "textarea"),
        CustomField(500210, "Адрес", "smart_address"),
        CustomField(500211, "Денежное", "monetary"),
        CustomField(500212, "utm_term", "tracking_data", "UTM_TERM"),
    ):
        amocrm.add_field(known)
    amocrm.clock.set(1741000000)
    amocrm.create_lead(id=30100008, name="Все виды полей", status_id=41000002, price=Decimal("100.50"))
    amocrm.clock.set(1741436400)
    amocrm.change_lead(
        30100008,
        fields={
            500201: "просто текст",
            500202: "280.00",
            500203: True,
            500204: "Стандарт",
            500205: ["Красный", "Синий"],
            500206: 1741381200,
            500207: 1741436400,
            500208: "https://shop.example/p?a=1&b=2",
            500209: "строка 1\nстрока 2",
            500210: ["ул. Примерная, 1", "Примерск"],
            500211: "1234.5",
            500212: None,
        },
    )

    amocrm.send()

    assert sent(receiver, "lead-update-field-shapes")


def test_old_sender_has_the_recorded_bytes(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Its requests still arrive from relays and tests of the time."""
    amocrm.account.generation, amocrm.account.id, amocrm.account.subdomain = "2016", 10210000, "oldshop"
    amocrm.crm.add_pipeline(2116, "Old", {10210001: "Paying", 10210002: "New"})
    amocrm.add_field(CustomField(1110001, "Some text field"))
    amocrm.subscribe(receiver.url, ["status_lead", "delete_lead"])
    amocrm.clock.set(1456808154)
    lead_id = amocrm.create_lead(
        id=31920001,
        name="Some test lead",
        pipeline_id=2116,
        status_id=10210002,
        price=Decimal(1000),
        fields={1110001: "some text"},
        created_by=100001,
        updated_by=100001,
    )
    amocrm.crm.leads[lead_id].responsible_id = 930001
    amocrm.clock.set(1456820780)
    amocrm.move_lead(lead_id, 10210001)

    amocrm.send()

    assert sent(receiver, "lead-status-2016")

    amocrm.delete_lead(amocrm.create_lead(id=52370001))
    amocrm.send()

    assert sent(receiver, "lead-delete-2016")


@pytest.mark.parametrize(("generation", "first"), [("2016", False), ("2021", False), ("2024", True)])
def test_account_stands_before_or_behind_the_cards(
    amocrm: AmoCrm, receiver: Receiver, generation: Generation, *, first: bool
) -> None:
    """Nobody may count on its place."""
    amocrm.account.generation = generation
    amocrm.subscribe(receiver.url)
    amocrm.create_lead()

    amocrm.send()

    names = list(receiver.bodies[0])
    assert names[0].startswith("account") == first
    assert names[-1].startswith("account") != first
    assert ("account[id]" in names) == (generation != "2016")


def test_small_actions_have_the_recorded_bytes(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Deleted, restored, given to another user: nothing to convert, and nothing to refuse."""
    amocrm.subscribe(receiver.url)
    amocrm.clock.set(1741000000)
    amocrm.create_lead(id=30100005, name="Восстановленная", price=Decimal(700))
    amocrm.create_lead(
        id=30100001, name="Заявка с сайта", price=Decimal(4500), status_id=41000002, updated_by=9000002
    )
    amocrm.pending.clear()
    amocrm.clock.set(1741436400)

    amocrm.delete_lead(30100005)
    amocrm.send()
    assert sent(receiver, "lead-delete")

    amocrm.restore_lead(30100005)
    amocrm.send()
    assert sent(receiver, "lead-restore")

    amocrm.assign_lead(30100001, 9000002)
    amocrm.send()
    assert sent(receiver, "lead-responsible")


def test_contact_has_the_recorded_bytes(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Phones with their kinds, and the leads under their own numbers."""
    amocrm.subscribe(receiver.url, ["update_contact"])
    contact_fields = amocrm.crm.contact_fields
    phone, email = contact_fields[735002], contact_fields[735003]
    contact_fields[735002] = CustomField(phone.id, "Телефон", phone.kind, phone.code, phone.enums)
    contact_fields[735003] = CustomField(email.id, "Email", email.kind, email.code, email.enums)
    contact_fields[735001] = CustomField(735001, "Должность", code="POSITION")
    contact_fields[735004] = CustomField(735004, "Согласие", "checkbox")
    amocrm.clock.set(1741000000)
    contact_id = amocrm.create_contact(
        name="Тестовый Покупатель",
        fields={
            735001: "Покупатель",
            735002: ["+70000000001", "8 (000) 000-00-02"],
            735003: ["buyer@mail.example"],
            735004: True,
        },
        created_by=9000001,
    )
    amocrm.create_lead(id=30100001, contact_ids=[contact_id])
    amocrm.clock.set(1741003706)
    amocrm.change_contact(contact_id)

    amocrm.send()

    assert sent(receiver, "contact-update-phone-email")


def test_digital_pipeline_has_the_recorded_bytes(amocrm: AmoCrm, receiver: Receiver) -> None:
    """It carries no price, no name, no field and no date."""
    amocrm.create_lead(id=30100006, pipeline_id=PIPELINE)
    amocrm.run_pipeline_hook(receiver.url, 30100006)
    assert sent(receiver, "digital-pipeline-add")

    amocrm.create_lead(id=30100001, status_id=41000003)
    old = amocrm.lead(30100001)
    amocrm.move_lead(30100001, WON)
    amocrm.run_pipeline_hook(receiver.url, 30100001, old)
    assert sent(receiver, "digital-pipeline-status")


def test_webhook_tells_what_was_then(amocrm: AmoCrm, receiver: Receiver) -> None:
    """A late body is about the past: reopened since, it still says won."""
    amocrm.subscribe(receiver.url, ["status_lead"])
    lead_id = amocrm.create_lead(price=Decimal(100))
    amocrm.move_lead(lead_id, WON)
    amocrm.change_lead(lead_id, status_id=41000002, price=Decimal(200))
    won, reopened = [event for event in amocrm.pending if event.action == "status"]

    amocrm.send([reopened, won, won])

    start = "leads[status][0]"
    assert [(body[f"{start}[status_id]"], body[f"{start}[price]"]) for body in receiver.bodies] == [
        ("41000002", "200"),
        (str(WON), "100"),
        (str(WON), "100"),
    ]
