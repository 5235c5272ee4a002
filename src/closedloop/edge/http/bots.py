"""Which hits come from programs: marked, never dropped, since a payment of a marked session is a payment."""

from collections.abc import Mapping
from functools import lru_cache


def bot_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return crawler or prefetch, None for a browser that a person looks at."""
    purpose = headers.get(b"sec-purpose", b"") + headers.get(b"purpose", b"")
    if b"prefetch" in purpose or b"preview" in purpose:
        return "prefetch"
    agent = headers.get(b"user-agent", b"").decode("latin-1")
    return "crawler" if not agent or is_crawler(agent) else None


@lru_cache(maxsize=4096)
def is_crawler(agent: str) -> bool:
    """Return whether a user agent is that of a known crawler; the list is that of crawlerdetect."""
    # Imported here because its expressions take megabytes that a server without a tracker never needs.
    from crawlerdetect import CrawlerDetect  # type: ignore[import-untyped]  # noqa: PLC0415

    return bool(CrawlerDetect(user_agent=agent[:512]).isCrawler())
