"""How a report looks: the same content as text for the terminal and as report.md; and the files of a report.

Whatever enters report.md from a name, a note or an error is plain text there: it opens no table cell, tag or link.
"""

import dataclasses
import re
import shlex
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from sweep import paths
from sweep.config import StudyConfig
from sweep.errors import UserError
from sweep.report import content, figures, mistakes, notebook, page, table
from sweep.report.answer import Row
from sweep.report.content import Content
from sweep.report.outline import outline, shown

LATER = ("metric", "val_classes", "test_classes", "certificate")  # columns that older tables lack
# As entities, signs of Markdown and HTML have no effect wherever they stand; a backslash could itself be escaped.
ENTITIES = str.maketrans(
    {sign: f"&#{ord(sign)};" for sign in "<>|`$"} | dict.fromkeys("\n\r\x0b\x0c\x85\u2028\u2029", " ")
)
LINK = re.compile(r"(?<=\])[(\[:]")  # of [text](target), [text][name] and [name]: target
ENTITY = re.compile(r"&(?=#?\w+;)")


@dataclass(frozen=True)
class Result:
    """What came of a sweep: in print() the text of the terminal, in a notebook tables and pictures.

    folder: where its records are, and its report, if it is more than a point.
    said: all that the report says.
    """

    folder: Path
    said: Content

    @property
    def table(self) -> pd.DataFrame:
        """Every training: a row per point, seed and learning rate; accuracies in 0..1; `selected` marks the chosen."""
        return self.said.rows

    @property
    def summary(self) -> pd.DataFrame:
        """A row per task, weights and depth: mean test accuracy over seeds with its interval, and what it cost."""
        return self.said.summary

    @property
    def verdict(self) -> dict[str, Any]:
        """The content of verdict.json: which depths to keep, which are as good, what that says of the rule."""
        return self.said.verdict()

    @property
    def missing(self) -> list[str]:
        """A line for each point without its result, with the seeds that lack it and why."""
        return self.said.missing

    @property
    def report(self) -> Path | None:
        """report.html of the folder's last multirun; None if there was none."""
        page_ = self.folder / page.NAME
        return page_ if page_.exists() else None

    @property
    def text(self) -> str:
        """What the terminal shows."""
        return terminal(self.said)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        points, lost = self.table["job"].nunique(), len(self.missing)
        return f"<Result of {points} points, {f'{lost} without result' if lost else 'all with results'}: {self.folder}>"

    def _repr_html_(self) -> str:
        return notebook.result(self.said)


def build(
    root: Path,
    points: Sequence[table.Entry] | None = None,
    study: StudyConfig | None = None,
    formats: Sequence[str] = (),
) -> Result:
    """Write all that a report consists of: table.REPORT, and figures/.

    root: the sweep's folder.
    points, study: as in table.write_manifest; None = those of the last multirun.
    formats: of the figures, beside png: svg, pdf.
    raises: UserError if there is none.
    """
    if points is None or study is None:
        points, study = table.read_manifest(root)
    return _write(of(root, points, study), formats)


def of(root: Path, points: Sequence[table.Entry], study: StudyConfig) -> Result:
    """Return what came of these points, from their records; write nothing."""
    return Result(root, _gather(root, points, table.read(root, points), study))


def grow(root: Path, every: float | None, old: Collection[str] = ()) -> None:
    """Write report.html and curves.csv alone, of a sweep that runs: as far as points go, no word of those to come.

    every: the seconds until it is written again, at least; None = it has ended before its report could be made.
    old: jobs whose results are shown, but still to be replaced.
    """
    points, study = table.read_manifest(root)
    reads = table.read(root, points)
    lacking = {each.point.job for each in reads if not any(member.selected for member in each.members)}
    done = sum(point.job not in lacking and point.job not in old for point in points)
    said = _gather(root, points, reads, dataclasses.replace(study, allow_missing=True))
    if len(said.curves):
        paths.write_text(root / "curves.csv", _csv(said.curves))
    page.write(root, said, None if every is None else page.Running(done, len(points), time.time(), every))


def _gather(root: Path, points: Sequence[table.Entry], reads: Sequence[table.Read], study: StudyConfig) -> Content:
    name, notes = root.resolve().name, table.notes(root, points)
    said = content.gather(name, table.collect(name, reads), table.curves(reads), study, notes, command(root))
    return dataclasses.replace(said, mistakes=mistakes.gather(root, said))


def command(root: Path) -> str | None:
    """Return the command that the folder's last multirun was started with, as multirun.yaml has it; None if unknown."""
    try:
        found = yaml.safe_load((root / "multirun.yaml").read_text(encoding="utf-8"))["hydra"]["overrides"]
        given = [str(each) for each in (*found["task"], *found["hydra"]) if each != "hydra.mode=MULTIRUN"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return None
    return shlex.join(["python", "-m", "sweep", "-m", *given])


def merge(folders: Sequence[Path], target: Path, formats: Sequence[str] = ()) -> Result:
    """Write the report of several folders as one under target; each has records of a multirun, or its table.parquet.

    Of a result that two of them have, the later folder's counts. So a study grows piece by piece, and its report can be
    made again where its records no longer are.
    raises: UserError for a folder that has neither.
    """
    tables, study, name = [], StudyConfig(), target.resolve().name
    notes: list[str] = []
    for folder in folders:
        tables.append(rows_of(folder, name))
        if table.manifest_path(folder).exists():
            points, study = table.read_manifest(folder)
            notes += table.notes(folder, points)
    rows = table.merged(tables).assign(name=name)
    if pooled := _pooled(rows):
        raise UserError(
            f"{pooled} has two results of one seed, by settings that no column shows; compare the folders without --to"
        )
    said = content.gather(name, rows, table.curves([]), study, [*dict.fromkeys(notes)])
    return _write(Result(target, said), formats)


def _pooled(rows: pd.DataFrame) -> str | None:
    """Return the first cell, in words, in which one seed has results of two jobs, None if there is none."""
    keys = [*table.CELL, *table.variants(rows), "seed"]
    jobs = rows[rows["selected"]].groupby(keys, dropna=False)["job"].nunique()
    task, _, pretrained, depth, *_ = next(iter(jobs.index[jobs > 1]), (None,) * 4)
    return None if task is None else f"{task}, {'pretrained' if pretrained else 'random'}, {depth} frozen"


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    """Return the tidy table of a folder's records, else of its table.parquet; raise UserError if it has neither."""
    if table.manifest_path(folder).exists():
        return table.collect(name, table.read(folder, table.read_manifest(folder)[0]))
    if (folder / "table.parquet").exists():
        return _read(folder / "table.parquet")
    raise UserError(f"{folder}: neither sweep.json nor table.parquet there; give the folder of a sweep or a report")


def _read(file: Path) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a table that can be read ({error})") from error
    lacking = [column for column in LATER if column not in rows]
    return rows.reindex(columns=[*rows, *lacking]).astype(dict.fromkeys(lacking, "string"))


def _write(result: Result, formats: Sequence[str]) -> Result:
    """Write all that a report consists of; what has no row is left out."""
    root, said = result.folder, result.said
    packed = ["val_correct", "test_correct", "val_classes", "test_classes"]  # for programs
    paths.write_text(root / "table.csv", _csv(said.rows.drop(columns=packed)))
    paths.write_bytes(root / "table.parquet", said.rows.to_parquet())
    paths.write_text(root / "summary.csv", _csv(said.summary))
    if len(said.curves):
        paths.write_text(root / "curves.csv", _csv(said.curves))
    paths.write_json(root / "verdict.json", said.verdict())
    drawn = figures.write(root / "figures", [each.variant for each in said.sections], formats)
    paths.write_text(root / "table.md", f"{_cells(comparisons(said))}\n")
    paths.write_text(root / "table.tex", latex(comparisons(said)))
    paths.write_text(root / "report.md", markdown(said, drawn))
    page.write(root, said)
    return result


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def terminal(said: Content) -> str:
    """Return what the terminal shows, without colours and whatever its width: it can be pasted and compared."""
    text = ""
    for part in outline(said):
        before = ""
        for block in part.brief:
            if block.kind == "picture":
                continue
            words = block.kind in ("text", "list")
            text += "\n" if words and before == "words" else "\n\n"  # a blank line around tables and between parts
            text += _shown(block.rows) if block.kind == "table" else "\n".join(block.lines)
            before = "words" if words else block.kind
    return text.strip("\n")


def _shown(rows: Sequence[Row]) -> str:
    return tabulate(rows, headers="keys", disable_numparse=True)


def markdown(said: Content, drawn: dict[str, str]) -> str:
    """Return report.md; drawn: the files of the figures by variant, which are of accuracy; others report.html has."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        finalize=plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    parts = shown(outline(said), lambda block: block.picture == "accuracy")
    text = environment.get_template("report.md.j2").render(said=said, parts=parts, table=_cells, figures=drawn)
    return text.rstrip("\n") + "\n"


def _cells(rows: Sequence[Row]) -> Markup:
    cells = [{plain(key): plain(cell) for key, cell in row.items()} for row in rows]
    return Markup(tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True))  # its cells are plain


def comparisons(said: Content) -> list[Row]:
    """Return the rows of all variants' comparisons as of one table."""
    return [
        {**({"variant": section.variant.label} if section.variant.label else {}), **row}
        for section in said.sections
        for row in section.comparison
    ]


def latex(rows: Sequence[Row]) -> str:
    """Return the rows as a LaTeX table; it needs \\usepackage{booktabs}. Signs of LaTeX in cells are only shown.

    >>> print(latex([{"task": "a_b", "pretrained": "80.0 ± 1.5 keep"}]))
    \\begin{tabular}{lr}
    \\toprule
     task & pretrained \\\\
    \\midrule
     a\\_b & 80.0 $\\pm$ 1.5 keep \\\\
    \\bottomrule
    \\end{tabular}
    <BLANKLINE>
    """
    words = ("variant", "task", "case")
    sides = ["left" if name in words else "right" for name in rows[0]] if rows else []
    cells = [{" ".join(key.split()): " ".join(cell.split()) for key, cell in row.items()} for row in rows]
    text = tabulate(cells, headers="keys", tablefmt="latex_booktabs", disable_numparse=True, colalign=sides)
    return re.sub(r" +", " ", text).replace("±", r"$\pm$") + "\n"


def plain(value: object) -> str:
    """Return the value as Markdown that shows it and nothing else, in one line.

    >>> plain("<b>[a](b) | c")
    '&#60;b&#62;[a]&#40;b) &#124; c'
    """
    if isinstance(value, Markup):
        return value
    text = ENTITY.sub("&amp;", str(value))
    return LINK.sub(lambda sign: f"&#{ord(sign[0])};", text.translate(ENTITIES))
