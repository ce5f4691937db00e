"""Charts as SVG, made on the server: no script, no inline style, no other host.

Colours are classes, so that a style sheet gives them for light and for dark. Each chart has a title
and a description for those who hear it, and its numbers as a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH: Final = 470
HEIGHT: Final = 165
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 6, 8, 22
_INNER_WIDTH: Final = WIDTH - _LEFT - _RIGHT
_INNER_HEIGHT: Final = HEIGHT - _TOP - _BOTTOM
# A bar that stands for something is seen, however small it is beside the others.
_LEAST: Final = 1.0
_TIME_LABELS: Final = 6


@dataclass(frozen=True, slots=True)
class Series:
    """What one colour of a chart stands for.

    Attributes:
        kind: the class that has its colour.
        label: its name.
        values: one for each step; None where there is nothing to show.
    """

    kind: str
    label: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        name: its part of the page's ids.
        title: its title.
        summary: what there is to see, in a sentence.
        labels: a name for each step.
        series: what it shows.
        partial: the last step still goes on.
        estimated: for each step, whether its values are estimates.
        text: how a value is written.
    """

    name: str
    title: str
    summary: str
    labels: Sequence[str]
    series: Sequence[Series]
    text: Callable[[float], str]
    partial: bool = False
    estimated: Sequence[bool] = ()

    @cached_property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The numbers as the rows of a table."""
        return [
            (label, [self._cell(series.values[n], n) for series in self.series])
            for n, label in enumerate(self.labels)
        ]

    def _cell(self, value: float | None, n: int) -> str:
        if value is None:
            return "-"
        about = "≈ " if n < len(self.estimated) and self.estimated[n] else ""
        return f"{about}{self.text(value)}"

    def tip(self, n: int) -> str:
        """Return what is told of one step when somebody points at it."""
        cells = self.rows[n][1]
        told = (f"{series.label}: {cell}" for series, cell in zip(self.series, cells, strict=True))
        return "\n".join((self.labels[n], *told))


def columns(chart: Chart) -> SafeString:
    """Draw one column for each step, its series on top of each other.

    Args:
        chart: what to show.
    """
    sums = [sum(s.values[n] or 0 for s in chart.series) for n in range(len(chart.labels))]
    ticks = round_ticks(max(sums, default=0.0))
    pitch = _INNER_WIDTH / max(1, len(chart.labels))
    parts = []
    for n in range(len(chart.labels)):
        base, bars = 0.0, []
        for series in chart.series:
            value = series.values[n] or 0
            if value <= 0:
                continue
            height = max(_LEAST, value / ticks[-1] * _INNER_HEIGHT)
            y = _TOP + _INNER_HEIGHT - base - height
            bars.append((series.kind, _LEFT + n * pitch + pitch * 0.1, y, pitch * 0.8, height))
            base += height
        partial = chart.partial and n == len(chart.labels) - 1
        parts.append(_column(chart.tip(n), n, pitch, bars, partial=partial))
    return _svg(chart, [_grid((tick, tick / ticks[-1]) for tick in ticks), *parts], ticks)


def lines(chart: Chart) -> SafeString:
    """Draw a line for each series, on a logarithmic scale: milliseconds and minutes in one chart.

    Args:
        chart: what to show.
    """
    values = [v for series in chart.series for v in series.values if v is not None and v > 0]
    low = math.floor(math.log10(max(min(values, default=0.01), 0.001)))
    high = max(low + 1, math.ceil(math.log10(max(max(values, default=1.0), 0.001))))
    ticks = [10.0**power for power in range(low, high + 1)]
    pitch = _INNER_WIDTH / max(1, len(chart.labels))

    def share(value: float) -> float:
        return min(1.0, max(0.0, (math.log10(max(value, 0.0001)) - low) / (high - low)))

    drawn = [
        _line(series, lambda n: _LEFT + (n + 0.5) * pitch, lambda v: _y(share(v)))
        for series in chart.series
    ]
    hits = [_column(chart.tip(n), n, pitch, [], partial=False) for n in range(len(chart.labels))]
    return _svg(chart, [_grid((t, share(t)) for t in ticks), *drawn, *hits], ticks, share)


def bar(share: float, kind: str) -> SafeString:
    """Draw a bar for a table's cell, beside the number that it stands for.

    Args:
        share: how much of the cell it fills, from 0 to 1.
        kind: the class that has its colour.
    """
    width = f"{max(0.0, min(1.0, share)) * 100:.1f}"
    return format_html(
        '<svg class="rt-bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" '
        'focusable="false"><rect class="rt-track" width="100" height="8"/>'
        '<rect class="rt-{}" width="{}" height="8"/></svg>',
        kind,
        width,
    )


def round_ticks(highest: float, count: int = 4) -> list[float]:
    """Return round values for an axis, from zero to at least the highest.

    Args:
        highest: the largest value to be shown.
        count: about how many steps.
    """
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    return [step * n for n in range(math.ceil(highest / step - 1e-9) + 1)]


def _y(share: float) -> float:
    return _TOP + _INNER_HEIGHT * (1 - share)


def _svg(
    chart: Chart,
    parts: Iterable[SafeString],
    ticks: Sequence[float],
    share: Callable[[float], float] | None = None,
) -> SafeString:
    place = share or (lambda value: value / ticks[-1])
    marks = format_html_join(
        "",
        '<text class="rt-tick" x="{}" y="{}" text-anchor="end">{}</text>',
        ((_LEFT - 6, f"{_y(place(tick)) + 3.5:.1f}", chart.text(tick)) for tick in ticks),
    )
    return format_html(
        '<svg class="rt-chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}{}{}</svg>',
        *(WIDTH, HEIGHT, chart.name, chart.name),
        *(chart.name, chart.title, chart.name, chart.summary),
        *(marks, _times(chart.labels), _joined(parts)),
    )


def _grid(ticks: Iterable[tuple[float, float]]) -> SafeString:
    return format_html_join(
        "",
        '<line class="rt-grid" x1="{}" x2="{}" y1="{}" y2="{}"/>',
        ((_LEFT, WIDTH - _RIGHT, f"{_y(share):.1f}", f"{_y(share):.1f}") for _, share in ticks),
    )


def _times(labels: Sequence[str]) -> SafeString:
    pitch = _INNER_WIDTH / max(1, len(labels))
    every = max(1, math.ceil(len(labels) / _TIME_LABELS))
    shown = range(every // 2, len(labels), every)
    return format_html_join(
        "",
        '<text class="rt-tick" x="{}" y="{}" text-anchor="middle">{}</text>',
        ((f"{_LEFT + (n + 0.5) * pitch:.1f}", HEIGHT - 6, labels[n]) for n in shown),
    )


def _column(
    tip: str,
    n: int,
    pitch: float,
    bars: Sequence[tuple[str, float, float, float, float]],
    *,
    partial: bool,
) -> SafeString:
    drawn = format_html_join(
        "",
        '<rect class="rt-{}" x="{}" y="{}" width="{}" height="{}"/>',
        ((kind, *(f"{number:.1f}" for number in numbers)) for kind, *numbers in bars),
    )
    return format_html(
        '<g class="{}"><title>{}</title><rect class="rt-hit" x="{}" y="{}" width="{}" '
        'height="{}"/>{}</g>',
        "rt-step rt-partial" if partial else "rt-step",
        tip,
        f"{_LEFT + n * pitch:.1f}",
        _TOP,
        f"{pitch:.1f}",
        _INNER_HEIGHT,
        drawn,
    )


def _line(series: Series, x: Callable[[int], float], y: Callable[[float], float]) -> SafeString:
    # A line is broken where nothing was measured; a value between two gaps is a dot.
    runs: list[list[tuple[float, float]]] = [[]]
    for n, value in enumerate(series.values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x(n), y(value)))
    drawn = [_run(series.kind, run) for run in runs if run]
    return _joined(drawn)


def _run(kind: str, points: Sequence[tuple[float, float]]) -> SafeString:
    if len(points) == 1:
        ((x, y),) = points
        return format_html(
            '<circle class="rt-dot rt-{}" cx="{}" cy="{}" r="2"/>', kind, f"{x:.1f}", f"{y:.1f}"
        )
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return format_html('<polyline class="rt-line rt-{}" points="{}"/>', kind, text)


def _joined(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))
