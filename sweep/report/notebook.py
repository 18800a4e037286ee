"""What a notebook shows of a result: tables, sentences and pictures as HTML that is escaped and needs nothing else."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweep.report import figures
from sweep.report.content import Content
from sweep.report.outline import Block, outline

PIXELS = 100  # of an inch; a screen's, where figures in files are for print


def result(said: Content) -> str:
    """Return what a sweep found: the same parts as in a terminal, with the picture of every variant."""
    drawn = {}
    for section in said.sections:
        buffer = io.BytesIO()
        figures.draw(section.variant).savefig(buffer, format="png", dpi=PIXELS, metadata={"Software": None})
        drawn[section.variant.label] = base64.b64encode(buffer.getvalue()).decode()
    return html([block for part in outline(said) for block in part.brief], drawn)


def html(blocks: Sequence[Block], drawn: Mapping[str, str] | None = None) -> str:
    """Return blocks (heading, table, text, list, picture) as HTML. drawn: pictures by their label, PNG in base64."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("notebook.html.j2").render(blocks=blocks, drawn=drawn or {})
