"""Pictures of the market, PNG or SVG, told apart by line style, marker and shade so that they read in grey.

matplotlib is needed only here and is imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import numpy as np

from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.routing import Path
from hypercluster.market.errors import MarketError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

_Dash = str | tuple[int, tuple[int, int]]
STYLES: list[tuple[str, _Dash, str]] = [
    ("0.0", "-", "o"),
    ("0.35", "--", "s"),
    ("0.55", "-.", "^"),
    ("0.15", ":", "D"),
    ("0.7", "-", "v"),
    ("0.45", (0, (1, 1)), "x"),
]
"""Shade, dash and marker of each line of a plot."""


class NoPlots(MarketError):
    """matplotlib is missing, or the picture's format is unknown."""


@contextmanager
def picture(
    file: FilePath, *, width: float = 7.0, height: float = 4.2, panels: int = 1
) -> Iterator[list[Axes]]:
    """Yield the axes of a figure with ``panels`` side by side, and write it to ``file`` (.png or .svg)."""
    if file.suffix not in (".png", ".svg"):
        raise NoPlots(f"{file} must end in .png or .svg.")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise NoPlots("Plots need matplotlib: install it with `pip install matplotlib`.") from error
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A fixed hash salt and no date make the same data give the same file.
    with mpl.rc_context(
        {"svg.hashsalt": "hypercluster", "font.size": 9, "axes.grid": True, "grid.color": "0.9"}
    ):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield list(np.atleast_1d(figure.subplots(1, panels)))
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
        figure.savefig(file, dpi=130, metadata=metadata)


def lines(
    axes: Axes,
    x: Sequence[float] | np.ndarray,
    series: Mapping[str, Sequence[float] | np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    markers: bool = False,
) -> None:
    """Draw named ``series`` over ``x``."""
    for i, (name, values) in enumerate(series.items()):
        shade, dash, marker = STYLES[i % len(STYLES)]
        axes.plot(
            x,
            values,
            label=name,
            color=shade,
            linestyle=dash,
            marker=marker if markers else None,
            markersize=4,
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(series) > 1:
        axes.legend()


def draw_dag(file: FilePath, nodes: Sequence[Node], layers: int, path: Path | None = None) -> None:
    """Draw adverts as bars over the layers they serve, and ``path`` as the thick chain through them.

    Two bars can follow one another where one ends at the layer at which the other begins.
    """
    chosen = set(path.ids) if path else set()
    rows: list[int] = []  # where each lane of the drawing ends so far
    lanes = []
    order = sorted(nodes, key=lambda node: (node.id not in chosen, node.start, node.stop, node.price_wei))
    for node in order:
        lane = next((i for i, end in enumerate(rows) if end <= node.start), len(rows))
        rows[lane : lane + 1] = [node.stop]
        lanes.append(lane)
    with picture(file, height=max(2.0, 0.42 * len(rows) + 1.1), width=9) as (axes,):
        for node, lane in zip(order, lanes, strict=True):
            thick = node.id in chosen
            axes.barh(
                lane,
                node.stop - node.start - 0.08,
                left=node.start + 0.04,
                height=0.72,
                color="0.25" if thick else "0.92",
                edgecolor="0.0" if thick else "0.6",
                linewidth=1.6 if thick else 0.7,
            )
            axes.annotate(
                f"{node.id[:14]}\n{node.price_wei / 1e12:.3g} HCT/M, {node.total_ms:.3g} ms",
                ((node.start + node.stop) / 2, lane),
                ha="center",
                va="center",
                fontsize=6.5,
                color="1.0" if thick else "0.1",
            )
        axes.set(xlabel="layer", xlim=(0, layers), yticks=[], ylim=(-0.6, len(rows) - 0.4))
        axes.set_xticks(sorted({0, layers, *(node.start for node in nodes), *(node.stop for node in nodes)}))
        axes.invert_yaxis()
        if path:
            axes.set_title(
                f"chosen path: {path.price_wei / 1e12:.4g} HCT per million tokens, {path.ms:.4g} ms per token"
            )


def draw_frontier(file: FilePath, paths: Sequence[Path], chosen: Path | None = None) -> None:
    """Draw the frontier over price and time, the points that a weighted sum can reach filled, others open."""
    price = np.array([path.price_wei for path in paths]) / 1e12
    ms = np.array([path.ms for path in paths])
    hull = np.zeros(len(paths), dtype=bool)
    stack: list[int] = []
    for i in range(len(paths)):
        while len(stack) > 1 and _turns_up(price, ms, stack[-2], stack[-1], i):
            stack.pop()
        stack.append(i)
    hull[stack] = True
    with picture(file) as (axes,):
        axes.step(ms[::-1], price[::-1], where="post", color="0.6", lw=1, label="frontier")
        axes.scatter(ms[hull], price[hull], c="0.0", s=26, label="reached by some alpha", zorder=3)
        axes.scatter(
            ms[~hull],
            price[~hull],
            facecolors="1.0",
            edgecolors="0.0",
            s=26,
            label="off the convex hull",
            zorder=3,
        )
        if chosen:
            axes.scatter(
                [chosen.ms], [chosen.price_wei / 1e12], marker="*", c="0.45", s=190, label="chosen", zorder=4
            )
        axes.set(xlabel="time per token, ms", ylabel="price, HCT per million tokens")
        axes.legend()


def _turns_up(price: np.ndarray, ms: np.ndarray, a: int, b: int, c: int) -> bool:
    """Return whether b lies on or above the line from a to c, so that no weighting prefers it."""
    return bool((price[b] - price[a]) * (ms[c] - ms[a]) <= (price[c] - price[a]) * (ms[b] - ms[a]))


def draw_run(file: FilePath, ticks: Sequence[Mapping[str, float]]) -> None:
    """Draw a simulated run: prices, throughput and unserved clients over time."""
    x = np.array([row["tick"] for row in ticks])

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in ticks], dtype=float)

    unserved = (column("refused") + column("elsewhere")) / np.maximum(column("asked"), 1)
    with picture(file, width=11, panels=3) as (left, middle, right):
        lines(
            left, x, {"": column("paid_per_token")}, xlabel="tick", ylabel="price of a path, p_ref per token"
        )
        lines(middle, x, {"": column("tokens_per_s")}, xlabel="tick", ylabel="tokens per second")
        shares = {"unserved": unserved, "weakest layer / mean": column("weakest_layer")}
        lines(right, x, shares, xlabel="tick", ylabel="share")
