"""A table as people keep it: csv, tsv or parquet, by content; in any usual encoding; columns found by usual names."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import UserError

SEPARATORS = (",", "\t", ";", "|")
INTEGER = re.compile(r"-?[0-9]{1,18}")
NONE = "none"  # given for a column: there is none
# What columns are called, letters and digits alone; earlier words go first.
PATH = (
    *("path", "filepath", "imagepath", "imgpath", "relpath", "relativepath", "file", "filename", "imagefile"),
    *("imagefilename", "imgfile", "imagename", "imgname", "image", "img", "images", "files", "paths", "filenames"),
    *("photo", "picture", "imageid", "imgid", "id"),
)
LABEL = (
    *("label", "labels", "class", "classname", "labelname", "category", "categoryname", "target", "targets"),
    *("targetname", "finelabel", "classlabel", "groundtruth", "gt", "y", "classid", "labelid", "categoryid", "cls"),
)
SPLIT = ("split", "splits", "set", "subset", "partition", "datasplit", "splitname", "phase", "usage", "fold")
GROUP = ("group", "groups", "groupid", "patient", "patientid", "subject", "subjectid", "participant", "participantid")


@dataclass(frozen=True)
class Table:
    """A table that is open. names: its columns; column(name): that column as text, "" where there is nothing.

    place: what to call a row, by its number from 0. notes: sentences on what is not plain.
    """

    names: list[str]
    column: Callable[[str], list[str]]
    place: Callable[[int], str]
    notes: list[str]


def read(where: str, path: Path) -> Table:
    """Return the table in a file. where: the setting that names it; raises: UserError, in one line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror})") from error
    if content.startswith(b"PAR1"):
        return _parquet(where, path)
    if content.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        raise UserError(f"{where}: is compressed; unpack it")
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError(f"{where}: is a spreadsheet or an archive; save it as CSV")
    text, notes = _decoded(content)
    if "\0" in text:
        raise UserError(f"{where}: is no table of text; use a csv, tsv or parquet file")
    if text.lstrip().startswith(("{", "[")):
        raise UserError(f"{where}: is JSON; save it as a csv, tsv or parquet table with a row per image")
    told, text = _start(text)
    if told:
        return _text(where, text, told, notes)
    separators = sorted(SEPARATORS, key=lambda each: path.suffix.lower() in (".tsv", ".tab") and each != "\t")
    separator = max(separators, key=lambda each: _fit(text, each))
    return _text(where, text, separator, notes)


def find(names: Iterable[str], words: tuple[str, ...]) -> list[str]:
    """Return the columns that are called by one of these words, in the words' order.

    >>> find(["Image Path", "y", "Label"], LABEL)
    ['Label', 'y']
    """
    called = {name: {plain(name), plain(name).removesuffix("s")} & {*words} for name in names}
    known = [name for name, own in called.items() if own]
    return sorted(known, key=lambda name: min(map(words.index, called[name])))


def plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name.casefold())


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels sorted, as numbers if all are whole numbers.

    >>> in_order(["10", "9"]), in_order(["10", "9", "b"])
    (('9', '10'), ('10', '9', 'b'))
    """
    names = sorted({*labels})
    return tuple(sorted(names, key=int) if all(INTEGER.fullmatch(each) for each in names) else names)


def _decoded(content: bytes) -> tuple[str, list[str]]:
    """Return the text, by its byte order mark or as UTF-8, else in the encoding of old Windows programs."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252"), ["it is not UTF-8, and read as Windows-1252"]
    except UnicodeDecodeError:
        return content.decode("latin-1"), ["it is not UTF-8, and read as Latin-1"]


def _start(text: str) -> tuple[str, str]:
    """Return the separator that a spreadsheet's first line names, "" if none, and the text without it and comments."""
    said = re.match(r'"?sep=(.)"?(?=[\r\n])', text)
    if said:
        return said[1], text[said.end() :]
    comments = re.match(r"(?:#[^\r\n,;\t|]*(?:\r\n|\n|\r))+", text)
    blank = re.sub(r"[^\r\n]", "", comments[0]) if comments else ""  # so that lines keep their numbers
    return "", blank + text[comments.end() if comments else 0 :]


def _fit(text: str, separator: str) -> tuple[int, int]:
    """Return how well the header parts at this separator: columns of known names, and columns."""
    try:
        names = next(csv.reader(io.StringIO(text.lstrip()[:100_000], newline=""), delimiter=separator), [])
    except csv.Error:
        return 0, 0
    return len(find(names, PATH + LABEL + SPLIT + GROUP)), len(names)


def _text(where: str, text: str, separator: str, notes: list[str]) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    rows, lines = [], []
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            break
        except csv.Error as error:
            raise UserError(f"{where}: cannot be read from line {line} on ({error}); look for a stray quote") from error
        if not any(cells):
            continue
        if not names:
            names = cells
            continue
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise UserError(
                f"{where}: line {line} has {len(cells)} cells, and the first line {len(names)}; put quotes round a "
                f"cell with {'a tab' if separator == chr(9) else separator} in it"
            )
        rows.append(cells)
        lines.append(line)
    if not rows:
        raise UserError(f"{where}: has no rows; the first line names the columns, and each other is an image")

    def column(name: str) -> list[str]:
        if names.count(name) > 1:
            raise UserError(f"{where}: {names.count(name)} columns are called {name}; rename one")
        return [cells[names.index(name)] for cells in rows]

    return Table(names, column, lambda row: f"line {lines[row]}", notes)


def _parquet(where: str, path: Path) -> Table:
    try:
        schema = pq.read_schema(path)
        count = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: is no whole parquet file ({' '.join(str(error).split())[:150]})") from error
    if not count:
        raise UserError(f"{where}: has no rows")

    def column(name: str) -> list[str]:
        kind = schema.field(name).type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise UserError(
                f"{where}: column {name} is {str(kind)[:50]}, not text or numbers; data=parquet data.root={path} reads "
                "images that are in the file itself"
            )
        try:
            return [cell(value) for value in pq.read_table(path, columns=[name]).column(0).to_pylist()]
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{where}: is no whole parquet file ({' '.join(str(error).split())[:150]})") from error

    return Table(list(schema.names), column, lambda row: f"row {row}", [])


def cell(value: Any) -> str:
    """Return a value as text: 3.0, which an integer becomes beside empty cells, is 3."""
    if value is None or value != value:  # NaN
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
