"""What a struct of settings says of its fields: for checks, logs, forms and the reference."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    cast,
    get_args,
    get_origin,
    runtime_checkable,
)

import msgspec

from closedloop.deliver.addresses import shown_address
from closedloop.domain.tables import nearest, not_a_setting
from closedloop.errors import ConfigError

MASK = "***"
_PLACE = re.compile(r" - at `(?:key in )?\$([^`]*)`\Z")


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: what a form shows, what a check knows, what a log may tell."""

    name: str
    kind: Any  # str, bool, tuple[str, ...], Literal["a", "b"] …
    annotation: Any  # the same with its limits
    title: str
    help: str
    examples: tuple[object, ...]
    is_secret: bool | None  # None: its author did not say
    default: object = msgspec.NODEFAULT

    @property
    def is_required(self) -> bool:
        """Whether there is nothing that it could be without its owner."""
        return self.default is msgspec.NODEFAULT

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, empty when there is no list of them."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()


def about(title: str, meaning: str, *, example: object, secret: bool = False) -> msgspec.Meta:
    """Return all of a setting that is not its type, for use inside Annotated.

    `secret`: the configuration takes it from the environment or a file only, and logs mask it.
    """
    return msgspec.Meta(title=title, description=meaning, examples=[example], extra={"secret": secret})


# Settings that several destinations have.
OnlyGoals: TypeAlias = Annotated[
    tuple[str, ...],
    about("Goals", "Only conversions of these goals are told; empty: all.", example=("payment_success",)),
]
PrivateAddress: TypeAlias = Annotated[
    bool,
    about(
        "Private network",
        "The address is in a private network, and that is meant; http is allowed, too.",
        example=True,
    ),
]


@runtime_checkable
class Checked(Protocol):
    """Settings that know more of themselves than their types say."""

    def mistakes(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong, by key; shows no secret."""
        ...


def fields_of(shape: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return the settings of a struct, in its order."""
    return tuple(_field(info) for info in msgspec.structs.fields(shape))


def read_settings(shape: type[msgspec.Struct], table: Mapping[str, object]) -> msgspec.Struct:
    """Return the settings in a table of a file, or of a form whose values are all text.

    A number may stand for a text, and one text for a list of one. Raises ConfigError with every mistake,
    each a line that begins with its key and a blank: `"secrets[1] must be …"`.
    """
    fields = {field.name: field for field in fields_of(shape)}
    mistakes = [(name, not_a_setting(name, fields)) for name in table if name not in fields]
    values: dict[str, object] = {}
    for name, field in fields.items():
        if name not in table:
            if field.is_required:
                mistakes.append((name, f"is missing: {_shown_example(field)}"))
            continue
        try:
            values[name] = _converted(field, table[name])
        except msgspec.ValidationError as error:
            mistakes.append(_mistake(field, table[name], str(error)))
    settings, more = _whole(shape, fields.values(), values)
    told = {re.split(r"[.\[]", key)[0] for key, _ in mistakes}
    mistakes += [one for one in more if re.split(r"[.\[]", one[0])[0] not in told]
    if mistakes or settings is None:
        raise ConfigError(sorted(f"{key} {problem}" for key, problem in mistakes))
    return settings


def masked(settings: msgspec.Struct) -> dict[str, object]:
    """Return settings for a log: no secret, nothing of a query, of tables the names only."""
    told = {field.name: (field, getattr(settings, field.name)) for field in fields_of(type(settings))}
    return {
        name: _masked(value, is_secret=field.is_secret is not False) for name, (field, value) in told.items()
    }


def _field(info: msgspec.structs.FieldInfo) -> Field:
    kind, metas = info.type, [msgspec.Meta()]
    if get_origin(kind) is Annotated:
        kind, *metas = get_args(info.type)
    default = info.default
    if info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory()
    extra = {name: value for meta in metas for name, value in (meta.extra or {}).items()}
    return Field(
        name=info.encode_name,
        kind=kind,
        annotation=info.type,
        title=next((meta.title for meta in metas if meta.title), ""),
        help=next((meta.description for meta in metas if meta.description), ""),
        examples=tuple(one for meta in metas for one in meta.examples or ()),
        is_secret=cast("bool | None", extra.get("secret")),
        default=default,
    )


def _converted(field: Field, value: object) -> object:
    return msgspec.convert(_as_text(field.kind, value), field.annotation, strict=False)


def _as_text(kind: object, value: object) -> object:
    """Return a value as its kind spells it where a person may write it more shortly."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _as_text(inner[0], value)
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if origin is tuple:
        rows = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]
        return [_as_text(inner[0], row) for row in rows]
    if origin is dict and isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return {_as_text(inner[0], key): _as_text(inner[1], told) for key, told in pairs}
    return value


def _mistake(field: Field, value: object, error: str) -> tuple[str, str]:
    """Return the key and the sentence for what msgspec says, which never shows a value."""
    found = _PLACE.search(error)
    key = field.name + (found[1] if found else "").replace("[...]", "")
    if field.choices and isinstance(value, str):
        return key, f"must be {' or '.join(field.choices)}: {value[:80]!r}{nearest(value, field.choices)}"
    if "matching regex" in error:
        return key, f"must look like {field.examples[0] if field.examples else 'what the reference says'}"
    return key, f"is wrong: {_PLACE.sub('', error)}"


def _whole(
    shape: type[msgspec.Struct], fields: Iterable[Field], values: Mapping[str, object]
) -> tuple[msgspec.Struct | None, list[tuple[str, str]]]:
    """Return the struct and what it says of itself; examples stand where a value is missing or wrong."""
    stand_ins = {field.name: field.examples[0] for field in fields if field.is_required and field.examples}
    try:
        settings = shape(**{**stand_ins, **values})
    except (ValueError, TypeError) as error:
        key, _, problem = str(error).partition(" ")
        return None, [(key, problem)]
    return settings, list(settings.mistakes()) if isinstance(settings, Checked) else []


def _shown_example(field: Field) -> str:
    example = "env:NAME" if field.is_secret else (field.examples or ("",))[0]
    return f"{field.title}, such as {example}"


def _masked(value: object, *, is_secret: bool) -> object:
    if isinstance(value, tuple):
        return [_masked(one, is_secret=is_secret) for one in cast("tuple[object, ...]", value)]
    if isinstance(value, dict):
        return {str(key): MASK for key in cast("dict[object, object]", value)}
    if is_secret:
        return MASK if value else ""
    return shown_address(value) if isinstance(value, str) and "://" in value else value
