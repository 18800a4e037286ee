"""What a notebook shows of a result: tables, sentences and pictures as HTML that is escaped and needs nothing else."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweep.report import figures
from sweep.report.content import Content
from sweep.report.outline import Block

PIXELS = 100  # of an inch; a screen's, where figures in files are for print


def result(said: Content) -> str:
    """Return what a sweep found: of every variant the comparison, its picture, and what is said of it."""
    drawn = {}
    for section in said.sections:
        buffer = io.BytesIO()
        figures.draw(section.variant).savefig(buffer, format="png", dpi=PIXELS, metadata={"Software": None})
        drawn[section.variant.label] = base64.b64encode(buffer.getvalue()).decode()
    return html([*_blocks(said)], drawn)


def _blocks(said: Content) -> Iterator[Block]:
    for section in said.sections:
        label = section.variant.label
        if label:
            yield Block("heading", [label])
        yield Block("table", rows=section.comparison)
        yield Block("picture", picture="accuracy", label=label)
        yield Block("list", section.lines)
    if said.side_by_side:
        yield Block("heading", ["Side by side: test accuracy in % of the pretrained arm"])
        yield Block("table", rows=said.side_by_side)
    if said.doubts:
        yield Block("list", said.doubts)
    if said.missing:
        yield Block("heading", ["Missing"])
        yield Block("list", said.missing)


def html(blocks: Sequence[Block], drawn: Mapping[str, str] | None = None) -> str:
    """Return blocks (heading, table, list, picture) as HTML. drawn: pictures by their label, PNG in base64."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("notebook.html.j2").render(blocks=blocks, drawn=drawn or {})
