"""A deployment starts with exactly what its owner wrote, or not at all and with every mistake named."""

import base64
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from closedloop.config import child_environment, read_config
from closedloop.domain.goals import Goal
from closedloop.domain.signing import SIGNING_PREFIX
from closedloop.errors import ConfigError
from closedloop.settings import Config
from fix_tools import REPOSITORY

SECRETS = {
    "HOOK_KEY": "hook-key-new",
    "HOOK_KEY_OLD": "hook-key-old",
    "BITRIX24_REST_URL": "https://b24.example/rest/1/abc/",
    "BITRIX24_TOKEN": "b24-token",
    "AMOCRM_TOKEN": "amo-token",
    "METRICA_TOKEN": "metrica-token",
}

# Four mistakes of four kinds in one table: a name, a type, a zone, a currency.
FOUR_MISTAKES = """
[sites.default]
timezon = "Europe/Moscow"
timezone = "Europe/Moskow"
currency = "RUR"
origins = "https://shop.example"
"""

MOMENTS_TOLD = "created, qualified, won, lost, stage:ID or status:ID"
UNREADABLE = "which cannot be read: No such file or directory"

Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Give the reader of a closedloop.toml with this text, in a folder of its own."""

    def read_text(text: str = "", environment: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "closedloop.toml"
        path.write_text(text)
        return read_config(config=path, data_dir=tmp_path / "data", environment=environment or {})

    return read_text


def mistakes_of(read: Read, text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the mistakes of a configuration, without the path of its file."""
    with pytest.raises(ConfigError) as caught:
        read(text, environment)
    places = [line.partition("closedloop.toml: ") for line in caught.value.mistakes]
    assert all(found for _, found, _ in places), "each line names the file"
    return [mistake for _, _, mistake in places]


def example_of_the_contract() -> str:
    """Return the TOML of docs/contract.md, section 6."""
    section = (REPOSITORY / "docs" / "contract.md").read_text().partition("## 6.")[2]
    return section.partition("```toml")[2].partition("```")[0]


def test_example_of_the_contract_is_accepted(read: Read) -> None:
    """Everyone begins by copying it."""
    config = read(example_of_the_contract(), SECRETS)

    site = config.sites["default"]
    assert (site.timezone, site.currency, site.zone.key) == ("Europe/Moscow", "RUB", "Europe/Moscow")
    assert site.origins == ("https://shop.example",)
    assert site.webhook_keys == ("hook-key-new", "hook-key-old")
    assert site.bitrix24 is not None
    assert site.bitrix24.rest_url == "https://b24.example/rest/1/abc/"
    assert site.amocrm is not None
    assert site.amocrm.access_token == SECRETS["AMOCRM_TOKEN"]
    assert site.goals == (Goal(on="won", goal="payment_success"),)
    assert [(one.name, one.type) for one in site.destinations] == [("metrica", "metrica-orders")]


def test_no_file_at_all_is_one_site(tmp_path: Path) -> None:
    """A shop with one site needs no ceremony."""
    config = read_config(data_dir=tmp_path / "data", environment={})

    assert list(config.sites) == ["default"]
    assert config.database_url is None
    assert config.data_dir == tmp_path / "data"


def test_environment_names_file_folder_and_database(tmp_path: Path) -> None:
    """In a container there is nothing but the environment."""
    (tmp_path / "my.toml").write_text("[sites.second]")
    named = {"CLOSEDLOOP_CONFIG": str(tmp_path / "my.toml"), "CLOSEDLOOP_DATA_DIR": str(tmp_path / "kept")}

    config = read_config(environment={**named, "DATABASE_URL": "postgresql://db.example/x"})

    assert list(config.sites) == ["second", "default"]
    assert config.data_dir == tmp_path / "kept"
    assert config.database_url == "postgresql://db.example/x"


def test_mistakes_of_all_kinds_are_told_at_once(read: Read) -> None:
    """Whoever mends one mistake a restart gives up at the fourth."""
    assert mistakes_of(read, FOUR_MISTAKES) == [
        "sites.default.currency is not an ISO 4217 code such as RUB: 'RUR'; did you mean 'RUB'?",
        "sites.default.origins is wrong: Expected `array`, got `str`",
        "sites.default.timezon is not a setting; did you mean timezone?",
        "sites.default.timezone is not an IANA time zone: 'Europe/Moskow'; did you mean 'Europe/Moscow'?",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[site.default]", "site is not a setting; did you mean sites?"),
        ("debug = true", "debug is not a setting; known are: sites, tracker"),
        ("sites = 1", "sites must be tables such as [sites.default]"),
        ("[sites]\ndefault = 1", "sites.default must be a table"),
        ("[sites.Shop]", "sites.Shop must be lower-case letters, digits, '-' and '_'"),
    ],
)
def test_mistake_around_the_sites_is_told(read: Read, text: str, mistake: str) -> None:
    """A whole table that is passed over in silence is a shop without its settings."""
    assert mistakes_of(read, text) == [mistake]


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('name = "x"', "name is not a setting; did you mean amocrm?"),
        ("dedup_hours = 0", "dedup_hours must be more than 0 and at most 8784, a year"),
        ("dedup_hours = inf", "dedup_hours must be more than 0 and at most 8784, a year"),
        ("dedup_hours = nan", "dedup_hours must be more than 0 and at most 8784, a year"),
        ("amocrm.base = 1", "amocrm.base is not a setting; did you mean base_url?"),
        ("amocrm.base_url = 1", "amocrm is wrong: Expected `str | null`, got `int` - at `$.base_url`"),
        ('goals = [{on = "won"}]', "goals is wrong: Object missing required field `goal` - at `$[0]`"),
        (
            'goals = [{on = "wom", goal = "x"}]',
            f"goals[0].on must be {MOMENTS_TOLD}: 'wom'; did you mean 'won'?",
        ),
        (
            'goals = [{on = "won", goal = "x", gaol = 1}]',
            "goals[0].gaol is not a setting; did you mean goal?",
        ),
        (
            'goals = [{on = "won", goal = "x", value = "half"}]',
            "goals[0].value must be sum, field:NAME, a sum such as 1500 or a share such as 30%: 'half'",
        ),
        (
            'amocrm.base_url = "alfashop"',
            "amocrm.base_url must be an address that begins with https://",
        ),
        ('currency = "rub"', "currency is not an ISO 4217 code such as RUB: 'rub'"),
        ('timezone = "../x"', "timezone is not an IANA time zone: '../x'"),
        ('timezone = ""', "timezone is not an IANA time zone: ''"),
    ],
)
def test_mistake_names_its_key_and_the_nearest_right_name(read: Read, line: str, mistake: str) -> None:
    """A typing error that is passed over in silence is found weeks later, in the money."""
    assert mistakes_of(read, f"[sites.default]\n{line}") == [f"sites.default.{mistake}"]


@pytest.mark.parametrize("on", ["created", "qualified", "won", "lost", "stage:C4:WON", "status:142"])
def test_every_moment_of_the_contract_is_taken(read: Read, on: str) -> None:
    """Stages and statuses are the CRM's own, so only their shape can be known."""
    config = read(f'[[sites.default.goals]]\non = "{on}"\ngoal = "x"')

    assert config.sites["default"].goals == (Goal(on=on, goal="x"),)


@pytest.mark.parametrize("value", ["sum", "field:Margin", "1500", "1500.50", "30%"])
def test_every_source_of_a_value_is_taken(read: Read, value: str) -> None:
    """A lead is worth what its owner says it is."""
    config = read(f'[[sites.default.goals]]\non = "created"\ngoal = "x"\nvalue = "{value}"')

    assert config.sites["default"].goals[0].value == value


def test_several_application_tokens_are_as_good_as_one(read: Read) -> None:
    """Each outgoing webhook of a portal has its own."""
    tokens = {"A": "x", "B": "y"}
    one = read('[sites.default.bitrix24]\napplication_token = "env:A"', tokens).sites["default"].bitrix24
    two = (
        read('[sites.default.bitrix24]\napplication_token = ["env:A", "env:B"]', tokens)
        .sites["default"]
        .bitrix24
    )

    assert (one and one.application_tokens, two and two.application_tokens) == (("x",), ("x", "y"))


def test_refresh_token_needs_its_companions(read: Read) -> None:
    """Half an authorization fails at night, when the first token expires."""
    mistakes = mistakes_of(
        read, '[sites.default.amocrm]\nrefresh_token = "env:R"\nclient_id = "x"', {"R": "secret"}
    )

    assert mistakes == ["sites.default.amocrm has a refresh_token and lacks client_secret, redirect_uri"]


def test_mistakes_of_one_site_hide_none_of_another(read: Read) -> None:
    """Names of sites may begin alike."""
    mistakes = mistakes_of(read, "[sites.shop]\norigins = 1\n[sites.shop2]\norigin = []\n")

    assert [one.partition(" ")[0] for one in mistakes] == ["sites.shop.origins", "sites.shop2.origin"]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("sites.default.webhook_keys[1]", '[sites.default]\nwebhook_keys = ["env:HOOK_KEY", "hunter2"]'),
        ("sites.default.bitrix24.rest_url", '[sites.default.bitrix24]\nrest_url = "https://hunter2.example"'),
        (
            "sites.default.bitrix24.application_token",
            '[sites.default.bitrix24]\napplication_token = "hunter2"',
        ),
        ("sites.default.amocrm.access_token", '[sites.default.amocrm]\naccess_token = "hunter2"'),
    ],
)
def test_secret_in_the_file_is_refused_unseen(read: Read, place: str, line: str) -> None:
    """The file stands in a repository, and the sentence about it in a log."""
    assert mistakes_of(read, line, SECRETS) == [
        f'{place} holds a secret in the file; write "env:NAME" or "file:PATH" instead'
    ]


def test_secret_of_a_file_loses_its_line_end(read: Read, tmp_path: Path) -> None:
    """Every editor ends a file with one, and no sender would ever send it."""
    (tmp_path / "key").write_text("from-a-file\n")

    config = read(f'[sites.default]\nwebhook_keys = ["file:{tmp_path}/key", "env:B"]', {"B": " from-env\n"})

    assert config.sites["default"].webhook_keys == ("from-a-file", "from-env")


@pytest.mark.parametrize("told", [{}, {"B": ""}, {"B": " \n"}])
def test_secret_that_is_not_set_is_named(read: Read, tmp_path: Path, told: Mapping[str, str]) -> None:
    """An empty key would be a door without a lock, or one that nobody can open."""
    (tmp_path / "empty").write_text("\n")
    text = f'[sites.default]\nwebhook_keys = ["env:B", "file:{tmp_path}/none", "file:{tmp_path}/empty"]'

    assert mistakes_of(read, text, told) == [
        "sites.default.webhook_keys[0] names the environment variable B, which is not set",
        f"sites.default.webhook_keys[1] names the file {tmp_path}/none, " + UNREADABLE,
        f"sites.default.webhook_keys[2] names the file {tmp_path}/empty, which is empty",
    ]


@pytest.mark.parametrize("secret", ["", "!!!", "c2hvcnQ=", "not base64 at all, but long enough", "кириллица"])
def test_signing_secret_that_protects_nothing_is_refused(read: Read, secret: str) -> None:
    """With an empty secret everybody could sign; the sentence must not show a real one either."""
    text = '[sites.default]\nwebhook_keys = ["env:B"]'

    assert mistakes_of(read, text, {"B": SIGNING_PREFIX + secret}) == [
        "sites.default.webhook_keys[0] must be whsec_ and base64 of at least 24 bytes"
    ]


def test_signing_secret_of_full_length_is_accepted(read: Read) -> None:
    """Standard Webhooks makes secrets of 24 to 64 bytes."""
    key = SIGNING_PREFIX + base64.b64encode(bytes(range(24))).decode()

    assert read("", {"CLOSEDLOOP_WEBHOOK_KEY": key}).sites["default"].webhook_keys == (key,)


def test_one_key_for_two_sites_is_refused(read: Read) -> None:
    """What comes with it would be counted for either, as the order of a file happens to be."""
    text = '[sites.a]\nwebhook_keys = ["env:B"]\n[sites.b]\nwebhook_keys = ["env:B"]'

    assert mistakes_of(read, text, {"B": "same"}) == [
        "sites.b.webhook_keys holds a key that sites.a has, too"
    ]
    assert mistakes_of(
        read, '[sites.b]\nwebhook_keys = ["env:B"]', {"B": "x", "CLOSEDLOOP_WEBHOOK_KEY": "x"}
    ) == ["sites.b.webhook_keys holds a key that sites.default has, too"]


@pytest.mark.parametrize("text", ["[sites.default]\ncurrency = RUB\n", '[sites.default]\nx = "\n'])
def test_broken_toml_is_told_with_its_line(read: Read, text: str) -> None:
    """Without the line a person searches the whole file for a missing quote."""
    [mistake] = mistakes_of(read, text)

    assert mistake.startswith("is not TOML: ")
    assert "line 2" in mistake


def test_file_that_is_named_but_not_there_is_told(tmp_path: Path) -> None:
    """To start with defaults instead would lose every site of the file."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        read_config(config=tmp_path / "none.toml", data_dir=tmp_path, environment={})


def test_webhook_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """It is shown at the first start only, and other users of the machine must not read it."""
    first = read_config(data_dir=tmp_path / "data", environment={})
    second = read_config(data_dir=tmp_path / "data", environment={})

    kept = tmp_path / "data" / "webhook.key"
    assert first.sites["default"].webhook_keys == (first.new_webhook_key,) == (kept.read_text(),)
    assert second.sites == first.sites
    assert second.new_webhook_key is None
    assert second.deployment_key == first.deployment_key
    assert len(first.deployment_key) == 32
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.parent.iterdir()} == {0o600}


def test_key_file_that_others_may_read_is_closed_again(tmp_path: Path) -> None:
    """A backup that is put back forgets the mode."""
    read_config(data_dir=tmp_path, environment={})
    (tmp_path / "webhook.key").chmod(0o644)

    read_config(data_dir=tmp_path, environment={})

    assert stat.S_IMODE((tmp_path / "webhook.key").stat().st_mode) == 0o600


def test_two_first_starts_at_once_agree_on_the_keys(tmp_path: Path) -> None:
    """`web` and `worker` on one folder are started together by a service manager."""
    program = (
        "from pathlib import Path; from closedloop.config import read_config; "
        f"c = read_config(data_dir=Path({str(tmp_path / 'data')!r}), environment={{}}); "
        "print(c.sites['default'].webhook_keys, c.deployment_key, c.new_webhook_key is not None)"
    )
    command = [sys.executable, "-c", program]

    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = [start.communicate()[0].rpartition(" ") for start in starts]

    assert len({keys for keys, _, _ in printed}) == 1
    assert sorted(is_new.strip() for _, _, is_new in printed) == ["False", "False", "False", "True"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["deployment.key", "webhook.key"]


def test_given_key_joins_those_of_the_file(read: Read) -> None:
    """A rotation begins in the environment and must not lock out who still has the old key."""
    text = '[sites.default]\nwebhook_keys = ["env:HOOK_KEY_OLD"]'

    config = read(text, {**SECRETS, "CLOSEDLOOP_WEBHOOK_KEY": " given\n"})

    assert config.sites["default"].webhook_keys == ("given", "hook-key-old")
    assert config.new_webhook_key is None
    assert not (config.data_dir / "webhook.key").exists()


def test_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The service manager shows this sentence and nothing else."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="file/data: the data folder cannot be made: Not a directory"):
        read_config(data_dir=tmp_path / "file" / "data", environment={})


def test_child_is_given_the_database_of_its_parent() -> None:
    """Further web processes must not start an embedded server of their own."""
    assert child_environment("postgresql://x")["DATABASE_URL"] == "postgresql://x"


def test_serve_with_mistakes_prints_them_and_ends_with_1(tmp_path: Path) -> None:
    """A service manager restarts what ended with 1; the owner reads what is printed."""
    (tmp_path / "closedloop.toml").write_text(FOUR_MISTAKES)

    command = [sys.executable, "-m", "closedloop", "serve", "--port", "0"]
    ended = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)

    lines = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(lines) == 4
    assert all(line.startswith("closedloop: closedloop.toml: sites.default.") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["closedloop.toml"]


def test_broken_deployment_key_is_not_replaced(read: Read, tmp_path: Path) -> None:
    """A new key in its place would make everything unreadable that the old one sealed."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "deployment.key").write_text("half a key")

    with pytest.raises(ConfigError, match=r"deployment\.key: is not 64 hexadecimal digits"):
        read()

    assert (tmp_path / "data" / "deployment.key").read_text() == "half a key"
