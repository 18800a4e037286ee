"""Small SVG drawings of report.html, by matplotlib.

Their colours are variables of the page's style, so one drawing is right in light, dark and print; every point says its
value in a tooltip, and every panel in words to whoever cannot see it.
"""

import io
import re
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

SIZE = (4.0, 2.9)  # inches; 1 inch is 72 units of the SVG
AXES = (0.13, 0.155, 0.85, 0.815)  # left, bottom, width, height
WITH_LEGEND = (0.13, 0.155, 0.66, 0.815)
# Viridis, of which the page's style has a lighter part for dark screens.
DEPTHS = ("#440154", "#443a83", "#31688e", "#21908d", "#35b779", "#5a9a1f")
COLOURS = {
    "#08519c": "var(--pretrained)",
    "#7f7f7f": "var(--random)",
    "#e6550d": "var(--good)",
    "#dddddd": "var(--grid)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    **{colour: f"var(--depth-{number})" for number, colour in enumerate(DEPTHS)},
}
MARKERS = "os^Dv<>PXph8"
CLEAR = 7.5  # of the SVG's units from the middle of a number to that of another, or of a marker
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8.5,
}


@dataclass(frozen=True)
class Panel:
    """title: the task; alt: what it shows, in words."""

    title: str
    alt: str
    svg: Markup


@dataclass
class Tips:
    """What points say when they are pointed at."""

    texts: list[str] = field(default_factory=list)

    def add(self, axis: Axes, x: float, y: float, text: str) -> None:
        """Put a wide invisible point there that says this."""
        axis.add_line(Line2D([x], [y], marker="o", color="none", markersize=14, gid=f"tip-{len(self.texts)}", zorder=9))
        self.texts.append(text)


def panel(place: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE)
    return figure, figure.add_axes(place)


def grid(axis: Axes) -> None:
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def svg(figure: Figure, tips: Tips) -> Markup:
    """Return the figure as an element of a page: the page's colours, tooltips, and no identifier that another has."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="tip-(\d+)">', lambda found: _tip(tips.texts[int(found[1])]), text)
    text = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", text)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box, "matplotlib gives every figure one"
    text = re.sub(r"<svg\b[^>]*>", f'<svg {box[0]} aria-hidden="true" focusable="false">', text, count=1)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: COLOURS.get(found[0], found[0]), text)
    return Markup(re.sub(r"\s*\n\s*", " ", text))  # matplotlib has escaped what is text in it


def _tip(text: str) -> str:
    return f'<g class="tip"><title>{escape(text)}</title>'
