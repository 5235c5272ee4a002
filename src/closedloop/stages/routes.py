"""Which destinations a deployment has, and the loops that deliver to them."""

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from closedloop.settings import Site
from closedloop.stages.dealbook import Pool
from closedloop.stages.delivery import Deliverer, Route
from closedloop.store.sealed import Sealer
from closedloop.store.statements import Shape

if TYPE_CHECKING:
    from closedloop.outbound import (
        Outbound,  # it takes some megabytes that a server without destinations can spare
    )


class Routes:
    """The destinations of all sites, each with its own connections."""

    def __init__(self, sites: Mapping[str, Site], pool: Pool, shape: Shape, sealer: Sealer) -> None:
        self.outbounds: list[Outbound] = []
        self.deliverers: dict[tuple[str, str], Deliverer] = {}
        for site in sites.values():
            for one in site.destinations:
                route = Route(
                    site=site.name, name=one.name, destination=one.destination, settings=one.settings
                )
                self.deliverers[site.name, one.name] = Deliverer(
                    route, pool, shape, sealer, self.outbound(private=is_private(one.settings))
                )

    def outbound(self, *, private: bool) -> "Outbound":
        """Return connections of their own: one slow destination holds up no other."""
        from closedloop.outbound import Outbound  # noqa: PLC0415 - see above

        made = Outbound(private=private)
        self.outbounds.append(made)
        return made

    def loops(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield the loops of a worker with their names."""
        for (site, name), deliverer in self.deliverers.items():
            yield f"deliver-{site}-{name}", deliverer.run()

    async def close(self) -> None:
        """Close all connections."""
        for outbound in self.outbounds:
            await outbound.close()


def is_private(settings: object) -> bool:
    """Return whether a destination may stand in a private network."""
    return bool(getattr(settings, "private_address", False))


def names_of(sites: Mapping[str, Site]) -> dict[str, Sequence[str]]:
    """Return the names of the destinations of each site."""
    return {site.name: [one.name for one in site.destinations] for site in sites.values()}
