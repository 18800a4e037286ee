"""What pages show of the code, made when the site is built: output of commands, pictures of a result, a notebook.

In a page, a comment of these asks for it:
    <!-- output: python -m sweep.models resnet18 -->      the command and what it prints
    <!-- notebook: notebook.ipynb -->                      its cells, with their outputs
    <!-- function: run -->                             a function of the package
    <!-- section: CONTRIBUTING.md Add a model -->          a section of a file beside docs/
Links to files outside of docs/ become links to the repository.
"""

import inspect
import json
import posixpath
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import griffe

import sweep

PROJECT = Path(__file__).parent.parent
SOURCE = "https://github.com/freeze-sweep/freeze-sweep/blob/main/"


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Return the page with what its comments ask for."""
    site = Path(config.site_dir)
    markdown = re.sub(r"<!-- output: (.+?) -->", lambda found: output(found[1], site), markdown)
    markdown = re.sub(r"<!-- notebook: (\S+) -->", lambda found: notebook(PROJECT / "docs" / found[1]), markdown)
    markdown = re.sub(r"<!-- function: (\w+) -->", lambda found: function(found[1]), markdown)
    markdown = re.sub(r"<!-- section: (\S+) (.+?) -->", lambda found: section(PROJECT / found[1], found[2]), markdown)
    return re.sub(r"\]\(((?:\.\./)+[^)#]+)", lambda found: f"]({outside(found[1], page.file.src_uri)}", markdown)


def output(command: str, site: Path) -> str:
    """Return what a Python command prints, run in the project's folder; site/ is where the site is built."""
    arguments = [re.sub(r"^site(?=/)", str(site), each) for each in shlex.split(command)]
    done = subprocess.run(
        [sys.executable, *arguments[1:]], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=300
    )
    return f"```\n{command}\n\n{done.stdout.rstrip()}\n```"


def notebook(file: Path) -> str:
    """Return a notebook's cells as Markdown, outputs as they were kept."""
    parts = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for each in cell.get("outputs", ()):
            data = each.get("data", {})
            if "text/html" in data:
                lines = "".join(data["text/html"]).splitlines()
                parts.append("\n".join(["<div>", *(line.strip() for line in lines if line.strip()), "</div>"]))
            else:
                text = "".join(each.get("text") or data.get("text/plain", ""))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def section(file: Path, title: str) -> str:
    """Return the section under this heading, with the heading."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", file.read_text(encoding="utf-8"), re.M | re.S)
    if not found:
        raise ValueError(f"{file.name} has no section {title!r}")
    return found[0]


def outside(link: str, page: str) -> str:
    """Return a link of a page to a file; to the repository where that is not below docs/."""
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    if target.startswith("docs/"):
        return link
    if not (PROJECT / target).exists():
        raise ValueError(f"docs/{page}: {link} is no file")
    return SOURCE + target


def function(name: str) -> str:
    """Return a function of the package, and what its docstring says; packages of the same name hide it from griffe."""
    found = vars(sweep)[name]
    signature = re.sub(r"collections\.abc\.|pathlib\.|'", "", str(inspect.signature(found)))
    return f"### {name}\n\n```python\nsweep.{name}{signature}\n```\n\n{listed(inspect.getdoc(found) or '')}"


def listed(docstring: str) -> str:
    """Return a docstring of ours in which a line `name: what it is` is an entry of a list."""
    return re.sub(r"^(\w+(?:, \w+)*): ", r"\n- `\1`: ", docstring, flags=re.M)


class Fields(griffe.Extension):
    """Lays out our docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = listed(obj.docstring.value)
