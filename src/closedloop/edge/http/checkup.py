"""What of a site's set-up is seen to work, and what is missing, in words of the owner."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources

import msgspec

from closedloop.edge.http.recent import Refused
from closedloop.store.latest import Latest, LatestVisit

OK, WAIT, FAIL = "ok", "wait", "fail"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the set-up: `said` and `mend` are sentences, `at` is when it was last seen."""

    step: str
    state: str
    said: str
    mend: str = ""
    at: datetime | None = None


# Each sentence in English and in Russian.
class Words:
    """The sentences of one part of the page, in one language."""

    def __init__(self, part: str, language: str) -> None:
        file = resources.files("closedloop.edge.http") / "pages" / "check.toml"
        sentences = tomllib.loads(file.read_text(encoding="utf-8"))[part]
        self.words: dict[str, str] = {name: texts[language] for name, texts in sentences.items()}

    def text(self, name: str, **values: str) -> str:
        """Return one sentence."""
        return self.words[name].format(**values)


class Checkup:
    """Says what is seen, in one of two languages."""

    def __init__(self, language: str) -> None:
        self.text = Words("step", language).text

    def step(self, name: str, state: str, said: str, mend: str = "", at: datetime | None = None) -> Step:
        """Return one step."""
        return Step(step=self.text(name), state=state, said=said, mend=mend, at=at)

    def steps(self, latest: Latest, refused: Sequence[Refused]) -> Iterator[Step]:
        """Yield the steps in the order in which an owner takes them."""
        people = [visit for visit in latest.visits if visit.bot in {None, "driven"}]
        yield self.script(people)
        if refused:
            said = self.text("refused", origin=refused[0].origin or "null")
            yield self.step("origin", FAIL, said, self.text("refused_mend"), refused[0].at)
        yield self.client(people)
        yield self.form(people)
        yield from self.lead(latest)
        yield self.deal(latest)

    def script(self, visits: Sequence[LatestVisit]) -> Step:
        """Return whether visits come."""
        if not visits:
            return self.step("script", WAIT, self.text("no_visit"), self.text("no_visit_mend"))
        said = f"{self.text('visit')}: {last_page(visits[0])}".rstrip(": ")
        return self.step("script", OK, said, at=visits[0].at)

    def client(self, visits: Sequence[LatestVisit]) -> Step:
        """Return whether Metrica's ClientID comes with them."""
        known = next((visit for visit in visits if visit.ym_uid), None)
        if known is None:
            return self.step("client", WAIT, self.text("client_none"), self.text("client_mend"))
        return self.step("client", OK, f"{self.text('client_ok')}: {known.ym_uid}", at=known.at)

    def form(self, visits: Sequence[LatestVisit]) -> Step:
        """Return whether the page sees forms being sent."""
        sent = next((visit for visit in visits if visit.forms != "{}"), None)
        if sent is None:
            return self.step("form", WAIT, self.text("form_none"), self.text("form_mend"))
        return self.step("form", OK, self.text("form_ok"), at=sent.at)

    def lead(self, latest: Latest) -> Iterator[Step]:
        """Yield whether the form's webhook comes, and whether its visit is known."""
        lead = latest.lead
        if lead is None:
            yield self.step("webhook", WAIT, self.text("webhook_none"), self.text("webhook_mend"))
            return
        form = f"«{lead.form_name}»" if lead.form_name else ""
        if lead.has_session or lead.has_ym_uid:
            yield self.step("webhook", OK, self.text("lead", form=form), at=lead.at)
        else:
            said = self.text("lead_no_session", form=form)
            yield self.step("webhook", FAIL, said, self.text("lead_mend"), lead.at)
        if lead.is_matched:
            yield self.step("link", OK, self.text("link_ok"), at=lead.at)
        else:
            yield self.step("link", WAIT, self.text("link_none"), self.text("link_mend"), lead.at)

    def deal(self, latest: Latest) -> Step:
        """Return whether deals come and find their visits."""
        told = latest.conversion
        if told is None:
            return self.step("crm", WAIT, self.text("crm_none"), self.text("crm_mend"))
        if told.is_matched:
            return self.step("crm", OK, self.text("crm_ok", goal=told.goal), at=told.at)
        said = self.text("crm_unmatched", goal=told.goal)
        return self.step("crm", WAIT, said, self.text("crm_unmatched_mend"), told.at)


def last_page(visit: LatestVisit) -> str:
    """Return the address of the page that was opened last."""
    pages = json.loads(visit.pages).values()
    return str(max(pages, key=lambda page: page["at"])["url"]) if pages else ""
