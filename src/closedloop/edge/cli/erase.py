"""`closedloop erase`: forgets one visitor; says first what it would do, and does it only with --yes."""

import json
import sys
from pathlib import Path

import msgspec
import psycopg

from closedloop.domain.identity import email_address, phone_e164
from closedloop.edge.cli.database import database_of, site_of
from closedloop.errors import OperatorError
from closedloop.stages import clock
from closedloop.store.erase import Found, Person, erase, find_person
from closedloop.store.sealed import Sealer
from closedloop.store.sessions import read_session_table_now


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `erase` is asked for."""

    site: str = "default"
    session: str | None = None
    visitor: str | None = None
    ym_uid: str | None = None
    phone: str | None = None
    email: str | None = None
    yes: bool = False
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Print what there is of the person, forget it with `yes`, and return the exit code.

    Raises OperatorError when nobody is named, the site is unknown, or a contact cannot be read.
    """
    with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
        site_of(settings, wanted.site)
        person = person_of(wanted, Sealer(settings.deployment_key))
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
            table = read_session_table_now(conn)
            found = find_person(conn, table, wanted.site, person)
            if wanted.yes:
                erase(conn, table, wanted.site, person, found, clock.now())
    sys.stdout.write(told(found, erased=wanted.yes, as_json=wanted.as_json))
    return 0


def person_of(wanted: Wanted, sealer: Sealer) -> Person:
    """Return whom the options name; a phone and an e-mail as the hashes under which they are kept."""
    contacts = {
        "phone": None if wanted.phone is None else phone_e164(wanted.phone),
        "email": None if wanted.email is None else email_address(wanted.email),
    }
    for kind, given in (("phone", wanted.phone), ("email", wanted.email)):
        if given is not None and contacts[kind] is None:
            raise OperatorError(f"--{kind} is none that can be read")
    person = Person(
        session_id=wanted.session,
        visitor=wanted.visitor,
        ym_uid=wanted.ym_uid,
        hashes=tuple(sealer.hash(wanted.site, kind, value) for kind, value in contacts.items() if value),
    )
    if person == Person():
        raise OperatorError("name the visitor: --session, --visitor, --ym-uid, --phone or --email")
    return person


def told(found: Found, *, erased: bool, as_json: bool) -> str:
    """Return what was found, and whether it is gone."""
    counts = {
        "sessions": len(found.rows),
        "leads": len(found.leads),
        "conversions": len(found.conversions),
    }
    if as_json:
        return json.dumps({**counts, "erased": erased}) + "\n"
    parts = ", ".join(f"{name}: {count}" for name, count in counts.items())
    if erased:
        return f"Forgotten. {parts}. Goals and sums stay, nothing leads back to the person.\n"
    return f"Would forget: {parts}. Nothing was changed; run it again with --yes.\n"
