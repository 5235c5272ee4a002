"""What a person sees while the benchmark runs: each step with its time, a bar where it is long."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Steps:
    """Shows steps on `console`; `total` is how many there will be."""

    def __init__(self, console: Console, total: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.all = self.progress.add_task("benchmark", total=total)

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Show one step while it lasts."""
        self.progress.update(self.all, description=name)
        yield
        self.progress.advance(self.all)

    @contextmanager
    def counted(self, name: str, total: int) -> Generator[Callable[[int], None]]:
        """Show one step with a bar of its own; what is given is called with each advance."""
        task = self.progress.add_task(name, total=total)

        def advance(count: int) -> None:
            self.progress.advance(task, count)

        with self.step(name):
            yield advance
        self.progress.remove_task(task)
