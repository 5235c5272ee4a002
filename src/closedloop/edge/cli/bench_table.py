"""The benchmark's report as two tables and a sentence about the machine, in Markdown."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from closedloop.edge.cli.bench_load import CONVERSION, INSERT
from closedloop.edge.cli.bench_run import CONNECTIONS, HttpRun, Report, SqlRun, median
from closedloop.errors import OperatorError

BEGIN = "<!-- bench: begin; written by `closedloop bench --write` -->"
END = "<!-- bench: end -->"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the second table; `reached` is None where there is no goal."""

    name: str
    value: str
    goal: str = ""
    reached: bool | None = None


def markdown(report: Report) -> str:
    """Return the whole report."""
    lines = [
        f"Measured on {report.at:%Y-%m-%d} in one run. {machine_sentence(report)}",
        "",
        *table(LOAD_HEAD, [load_row(report, connections) for connections in CONNECTIONS]),
        "",
        acknowledged_sentence(report),
        "",
        *table(("figure", "measured", "goal", ""), [figure_row(one) for one in figures(report)]),
    ]
    return "\n".join(lines) + "\n"


LOAD_HEAD = (
    "connections",
    "conversions/s over HTTP",
    "p50",
    "p99",
    "same work by pgbench, tps",
    "HTTP / pgbench",
    "one small row by pgbench, tps",
)


def load_row(report: Report, connections: int) -> list[str]:
    """Return the line of one number of connections: medians, lowest and highest in brackets."""
    http = runs_over_http(report, connections)
    same, least = (runs_by_pgbench(report, script, connections) for script in (CONVERSION, INSERT))
    return [
        str(connections),
        spread([run.wrk.rate for run in http], whole),
        f"{milliseconds(median([run.wrk.p50_us for run in http]))} ms",
        f"{milliseconds(median([run.wrk.p99_us for run in http]))} ms",
        spread([run.pgbench.rate for run in same], whole),
        spread(ratios(http, same), hundredths),
        spread([run.pgbench.rate for run in least], whole),
    ]


def figures(report: Report) -> list[Figure]:
    """Return the figures that have a goal, and those that explain them."""
    one, most = CONNECTIONS[0], CONNECTIONS[-1]
    ratio = median(ratios(runs_over_http(report, most), runs_by_pgbench(report, CONVERSION, most)))
    p50 = median([run.wrk.p50_us for run in runs_over_http(report, one)]) / 1000
    return [
        goal(f"HTTP / pgbench at {most}", ratio, hundredths, at_least=1.2),
        Figure(name="HTTP at its best / pgbench at its best", value=hundredths(best_ratio(report))),
        goal("p50 of a conversion at 1 connection, ms", p50, tenths, at_most=4.0),
        *hit_figures(report),
        *big_figures(report),
        *cost_figures(report),
        Figure(name="fdatasync of the disk, before and after, ms", value=" and ".join(fsyncs(report))),
        goal("memory at rest, RSS in MiB, without PostgreSQL", report.idle.rss, whole, at_most=80),
        Figure(name="the same as PSS", value=whole(report.idle.pss)),
        goal("memory under load, RSS in MiB", report.loaded.rss, whole, at_most=150),
        Figure(name="the same as PSS", value=whole(report.loaded.pss)),
        goal("warm start to ready, s", median(report.start_s), hundredths, at_most=1.0),
        *search_figures(report),
    ]


def hit_figures(report: Report) -> list[Figure]:
    """Return what the collector takes, against the same upsert by pgbench, and its delay at half of that."""
    http = [run.rate for run in report.hits.http]
    sql = [run.rate for run in report.hits.sql]
    pairs = [over / by_hand for over, by_hand in zip(http, sql, strict=True)]
    p99 = median([run.p99_us for run in report.hits.half]) / 1000
    return [
        goal(
            "hits at 128 / the same upsert by pgbench at 128",
            median(pairs),
            hundredths,
            at_least=1.5,
        ),
        Figure(name="… hits/s", value=spread(http, whole)),
        Figure(name="… upserts/s by pgbench", value=spread(sql, whole)),
        goal("p99 of a hit at half of that load, ms", p99, tenths, at_most=50.0),
    ]


def big_figures(report: Report) -> list[Figure]:
    """Return how the p50 grows with the table; nothing when that was not measured.

    The quietest rounds are compared: minutes lie between both sides, and a disturbance only ever adds.
    """
    found: list[Figure] = []
    for connections in (CONNECTIONS[0], CONNECTIONS[-1]):
        big = [run.wrk.p50_us for run in report.big if run.connections == connections]
        small = [run.wrk.p50_us for run in runs_over_http(report, connections)]
        if big:
            name = f"p50 at {connections} with {report.plan.big_sessions:,} sessions, times that with fewer"
            found.append(goal(f"{name}: quietest rounds", min(big) / min(small), hundredths, at_most=1.2))
            growth = hundredths(median(big) / median(small))
            found.append(Figure(name="… medians of all rounds, disturbances included", value=growth))
            control = hundredths(growth_of_control(report, connections))
            found.append(
                Figure(
                    name="… one small row by pgbench meanwhile, times that before: quietest rounds",
                    value=control,
                )
            )
    return found


def cost_figures(report: Report) -> list[Figure]:
    """Return the processor time of one conversion under full load."""
    most = CONNECTIONS[-1]
    http, same = runs_over_http(report, most), runs_by_pgbench(report, CONVERSION, most)
    server, postgres = median([run.server_us for run in http]), median([run.postgres_us for run in http])
    by_hand = median([run.postgres_us for run in same])
    return [
        Figure(name=f"processor time of one conversion at {most}: the server, µs", value=whole(server)),
        Figure(name="… and PostgreSQL, µs", value=whole(postgres)),
        Figure(name="… and PostgreSQL for the same by pgbench, µs", value=whole(by_hand)),
    ]


def search_figures(report: Report) -> list[Figure]:
    """Return what the search for late sessions costs and how soon it finds one."""
    search = report.search
    name = f"search for late sessions with {search.waiting:,} waiting, % of a core"
    return [
        goal(name, search.share * 100, tenths, at_most=5.0),
        Figure(name="… the server's part of it, %", value=tenths(search.server_share * 100)),
        Figure(
            name="… with nobody waiting, % of a core",
            value=tenths(search.share_idle * 100),
        ),
        goal("a late session is matched after, s (slowest)", max(search.matched_s), tenths, at_most=5.0),
    ]


def machine_sentence(report: Report) -> str:
    """Return the machine in words: never its name or a path."""
    found, plan = report.machine, report.plan
    return (
        f"{found.cores} cores ({found.processor}), shared by the load, the server and PostgreSQL; "
        f"{found.memory_gib} GiB of memory; {found.system}; Python {found.python}; "
        f"PostgreSQL {found.postgres}, embedded, fsync {found.fsync}, "
        f"synchronous_commit {found.synchronous_commit}; "
        f"{plan.sessions:,} sessions; rounds in turn: {plan.rounds}, of {plan.seconds} s each: "
        "the median, and in brackets the lowest and the highest."
    )


def acknowledged_sentence(report: Report) -> str:
    """Return how many conversions were acknowledged and how many of them the ledger holds."""
    runs = [*report.http, *report.big]
    accepted, recorded = sum(run.wrk.accepted for run in runs), sum(run.recorded for run in runs)
    other = sum(run.wrk.refused + run.wrk.broken for run in runs)
    return (
        f"Acknowledged with 200: {accepted:,}; in the ledger: {recorded:,} (those in flight when the load "
        f"ended are in the ledger only); acknowledged and missing: {report.missing}; other answers: {other}."
    )


def write_into(path: Path, text: str) -> None:
    """Put the report between the two marks of a file. Raises OperatorError when they are not there."""
    try:
        page = path.read_text(encoding="utf-8")
        before, begin, rest = page.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise OperatorError(f"{path} has no place for the report: the lines {BEGIN} and {END}")
        path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from error


def runs_over_http(report: Report, connections: int) -> list[HttpRun]:
    """Return the rounds of one number of connections, in order."""
    return [run for run in report.http if run.connections == connections]


def runs_by_pgbench(report: Report, script: str, clients: int) -> list[SqlRun]:
    """Return the rounds of one script and number of clients, in order."""
    return [run for run in report.sql if (run.script, run.clients) == (script, clients)]


def growth_of_control(report: Report, clients: int) -> float:
    """Return how many times longer one small row took meanwhile, in a table of its own."""
    before = [run.pgbench.latency_ms for run in runs_by_pgbench(report, INSERT, clients)]
    beside = [run.pgbench.latency_ms for run in report.big_sql if run.clients == clients]
    return min(beside) / min(before)


def ratios(http: Sequence[HttpRun], sql: Sequence[SqlRun]) -> list[float]:
    """Return the ratio of each round: both sides of it were measured within seconds."""
    return [one.wrk.rate / other.pgbench.rate for one, other in zip(http, sql, strict=True)]


def best_ratio(report: Report) -> float:
    """Return the ratio when each side may choose the number of connections that suits it best."""
    http = [median([run.wrk.rate for run in runs_over_http(report, number)]) for number in CONNECTIONS]
    sql = [
        median([run.pgbench.rate for run in runs_by_pgbench(report, CONVERSION, number)])
        for number in CONNECTIONS
    ]
    return max(http) / max(sql)


def fsyncs(report: Report) -> list[str]:
    """Return the times of fdatasync in milliseconds."""
    return [hundredths(one / 1000) for one in report.fsync_us]


def goal(
    name: str,
    value: float,
    shown: Callable[[float], str],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """Return a figure with its goal; it is the exact value that is compared, not the rounded one."""
    if at_least is not None:
        return Figure(name=name, value=shown(value), goal=f"≥ {at_least:g}", reached=value >= at_least)
    limit = at_most if at_most is not None else 0.0
    return Figure(name=name, value=shown(value), goal=f"≤ {limit:g}", reached=value <= limit)


def figure_row(figure: Figure) -> list[str]:
    """Return the cells of one figure."""
    return [
        figure.name,
        figure.value,
        figure.goal,
        {None: "", True: "reached", False: "missed"}[figure.reached],
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """Return `median (lowest to highest)`."""
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"


def whole(value: float) -> str:
    """Return a number with three digits that count, as more would be noise."""
    places = max(0, len(str(int(abs(value)))) - 3)
    return f"{round(value, -places):,.0f}"


def tenths(value: float) -> str:
    """Return a number with one place."""
    return f"{value:.1f}"


def hundredths(value: float) -> str:
    """Return a number with two places."""
    return f"{value:.2f}"


def milliseconds(microseconds: float) -> str:
    """Return a latency in milliseconds with two digits that count."""
    value = microseconds / 1000
    return tenths(value) if value < 10 else f"{value:.0f}"  # noqa: PLR2004 - two digits
