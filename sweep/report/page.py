"""report.html: the report as one file that needs nothing else, and that shows a sweep growing while it runs.

No library draws in the browser: matplotlib's SVG is there without any script, prints, follows the page's colours, and
is smaller than Vega-Lite's or Plotly's script; what is left to do there (sort, filter, save as CSV, reload) is
report.js.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sweep import paths
from sweep.report import panels, similarity
from sweep.report.content import Content
from sweep.report.outline import outline, shown

NAME = "report.html"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Running:
    """A sweep that runs. done, total: points; written: when, in seconds since 1970; every: seconds between writings."""

    done: int
    total: int
    written: float
    every: float


def write(root: Path, said: Content, running: Running | None = None) -> None:
    """Write report.html under root."""
    paths.write_text(root / NAME, html(said, running))


def html(said: Content, running: Running | None = None) -> str:
    """Return report.html. What enters it is escaped; its policy lets it run its own script alone, and load nothing."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    variants = {section.variant.label: section.variant for section in said.sections}
    parts = outline(said, running is not None)
    drawn = {
        (block.picture, block.label): panels.of(block.picture, said, variants[block.label])
        for part in parts
        for block in part.blocks
        if block.kind == "picture"
    }
    script = (HERE / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        said=said,
        parts=shown(parts, lambda block: drawn[block.picture, block.label]),
        panels=drawn,
        has_random=not said.summary["pretrained"].astype(bool).all(),
        map_caption=similarity.CAPTION,
        running=running,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=digest,
    )
