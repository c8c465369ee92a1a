"""Tables that never cut what they hold: ids and addresses can be copied from a pipe and from any terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table as Ruled
from rich.text import Text

from hypercluster.market.money.units import named
from hypercluster.node.cli.console import visible

_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ?%| s| ms)?|-?")
_GAP = "  "


class Table:
    """Rows of literal cells under headings; without headings, names and their values.

    A terminal gets ruled columns where they fit its width, and else each row as lines of `heading: cell`. A pipe or
    file gets plain columns two spaces apart, of whatever width they need.
    """

    def __init__(self, *headings: str, title: str = "") -> None:
        self.headings = tuple(map(named, headings))
        self.title = named(title)
        self._rows: list[list[Text]] = []

    def row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row; a cell with a colour of its own comes as Text."""
        self._rows.append([_text(cell, style) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Called by rich to print it."""
        if not console.file.isatty():
            yield from _lines(self._plain())
            return
        ruled = self._ruled()
        if console.measure(ruled, options=options.update(max_width=10_000)).maximum <= options.max_width:
            yield ruled
        else:
            yield from self._records(console)

    def _numeric(self) -> list[bool]:
        """Which columns hold nothing but numbers, and are aligned at the right."""
        columns = zip_longest(*self._rows, fillvalue=Text())
        return [all(_NUMBER.fullmatch(cell.plain) for cell in column) for column in columns]

    def _ruled(self) -> Ruled:
        ruled = Ruled(
            title=Text(visible(self.title), style="bold") if self.title else None,
            title_justify="left",
            show_header=bool(self.headings),
        )
        for number, heading in zip_longest(self._numeric(), self.headings, fillvalue=""):
            ruled.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for cells in self._rows:
            ruled.add_row(*cells)
        return ruled

    def _plain(self) -> Iterator[str]:
        if self.title:
            yield visible(self.title)
        rows = [[*self.headings]] if self.headings else []
        rows += [[" ".join(cell.plain.split("\n")) for cell in cells] for cells in self._rows]
        numeric = self._numeric() or [False] * len(self.headings)
        widths = [max(map(cell_len, column)) for column in zip_longest(*rows, fillvalue="")]
        for cells in rows:
            padded = (
                " " * (width - cell_len(cell)) + cell if number else cell + " " * (width - cell_len(cell))
                for cell, width, number in zip(cells, widths, numeric, strict=False)
            )
            yield _GAP.join(padded).rstrip()

    def _records(self, console: Console) -> Iterator[Segment]:
        if self.title:
            yield from _lines([visible(self.title)])
        for index, cells in enumerate(self._rows):
            if index and self.headings:
                yield Segment.line()
            pairs = zip(self.headings, cells, strict=False) if self.headings else [(cells[0].plain, cells[1])]
            for name, cell in pairs:
                yield Segment(f"{name}: " if name else "")
                yield from cell.render(console)
                yield Segment.line()


def _text(cell: str | Text, style: str) -> Text:
    return Text(visible(named(cell)), style=style) if isinstance(cell, str) else cell


def _lines(lines: Iterator[str] | list[str]) -> Iterator[Segment]:
    for line in lines:
        yield Segment(line)
        yield Segment.line()
