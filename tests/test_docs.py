"""What README and docs/ say: every command that is shown runs, the notebook too, and the site builds."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Done
from PIL import Image

from sweep.cli import advise, cache, compose, doctor, inspect
from sweep.models.__main__ import main as models
from sweep.report.__main__ import main as report

PROJECT = Path(__file__).parent.parent
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
# Pages with tests of their own, and those that tell what was run once.
OTHERS = {"own.md", "channels.md", "trackers.md", "report.md", "plan.md"}
FORM = re.compile(r"NAME|FILE|FOLDER|\.\.\.|\b[AB]\b|[~<]")  # to be filled in
STUDY = r"experiment=(?!tuned name=mine)"  # all but what is shown for one's own images
# Commands that take settings; tests/test_config.py composes every experiment.
SETTINGS = rf"python -m sweep(\.advise|\.inspect)? (?!.*{STUDY})"
# What is not run here: hours, other machines, or weights that are not here. Settings are composed all the same.
LONG = re.compile(rf"{STUDY}|launcher=(slurm|ray)|source=checkpoint|source=timm|data=cifar100|devices=")
# What a sweep is run with, so that it takes seconds and needs no connection.
SMALL = {"seeds": "1", "epochs": "1", "batch_size": "20", "optimizer.lr": "0.001", "budget_minutes": "0.02"}
FEW = {"data.limit_train": "12"}  # of the images that are there, where a command takes fewer than there are
ABSENT = {"source=imagenet": "source=glyphs_latin", "timm/vit_*": "timm/vit_small_patch16_2*"}  # of 200, one


def commands(page: str) -> list[str]:
    """Return the commands of ours in a page's fenced blocks and between backticks; lines that go on are joined."""
    blocks, code = r"^```\w*\n(.*?)^```", r"`(python -m sweep[^`\n]*)`"
    fenced = "\n".join(re.findall(blocks, page, re.M | re.S)).replace("\\\n", " ").splitlines()
    inline = re.findall(code, re.sub(blocks, "", page, flags=re.M | re.S))
    made = re.findall(r"<!-- output: (.+?) -->", page)
    found = [" ".join(re.sub(r"\s+#.*", "", line).split()) for line in (*fenced, *inline, *made)]
    return [each for each in found if re.match(r"python -m sweep\b", each) and not FORM.search(each)]


SHOWN = list(
    dict.fromkeys(
        each for path in PAGES if path.name not in OTHERS for each in commands(path.read_text(encoding="utf-8"))
    )
)


def test_the_commands_of_a_page_are_found() -> None:
    page = "Say `python -m sweep.models` or\n\n```\nmake x\npython -m sweep -m \\\n    a=1,2  # why\n\ntable `x`\n```\n"
    assert commands(page) == ["python -m sweep -m a=1,2", "python -m sweep.models"]
    assert len(SHOWN) > 20
    assert "python -m sweep -m pretrained=true,false freeze_depth=0,2,4" in SHOWN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_of_images: Path, standin_source: None) -> Path:
    """A working folder with what the commands name: images, a table of labels, results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    folder_of_images.rename(tmp_path / "my" / "photos")
    for label in ("cat", "dog", "truck"):
        (tmp_path / "cifar10" / label).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (32, 32), (20 * number, 99, 10)).save(tmp_path / "cifar10" / label / f"{number}.png")
    (tmp_path / "weights.safetensors").touch()
    (tmp_path / "docs").symlink_to(PROJECT / "docs")
    return tmp_path


def settings(arguments: list[str]) -> list[str]:
    return [each for each in arguments if "=" in each and not each.startswith(("-", "budget_minutes="))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [each for each in SHOWN if re.match(r"python -m sweep(\.advise|\.inspect)? ", each)]
)
def test_settings_that_are_shown_can_be_composed(command: str, folder: Path) -> None:
    _, _, name, *given = shlex.split(command)
    if "--help" not in given:
        several = name == "sweep.inspect" or "-m" in given
        plain = [each for each in settings(given) if not each.startswith(("source.path", "hydra"))]
        plain = [ABSENT.get(each, each) for each in plain if each != "source=checkpoint"]
        assert compose.points(plain, multirun=several)


MAINS: dict[str, Callable[[list[str]], Any]] = {
    "sweep.models": models, "sweep.report": report, "sweep.doctor": doctor.main, "sweep.cache": cache.main,
    "sweep.advise": advise.advise, "sweep.inspect": inspect.inspect,
}  # fmt: skip
RUN = [each for each in SHOWN if not LONG.search(each)]


def test_a_command_of_every_kind_is_shown() -> None:
    assert {shlex.split(each)[2] for each in RUN} == {"sweep", *MAINS}


@pytest.mark.marathon
@pytest.mark.parametrize("command", RUN, ids=lambda command: command[len("python -m ") :][:95])
def test_every_command_that_is_shown_runs(
    command: str, folder: Path, sweep: Callable[..., Done], capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, name, *given = shlex.split(command)
    given = [ABSENT.get(each, each) for each in given]
    keys = [each.partition("=")[0] for each in given]
    small = SMALL | FEW
    quick = [f"{key}={small[key]}" if key in small else each for key, each in zip(keys, given, strict=True)]
    if name == "sweep":
        if not {"--help", "--cfg"} & {*given}:
            quick += [f"{key}={value}" for key, value in SMALL.items() if key not in (*keys, "budget_minutes")]
        done = sweep(*quick)
        assert done.returncode == 0, done.stderr
        return
    if "outputs/sweep" in given:
        few = ("data=textures", "data.per_class=4", "freeze_depth=4,5", "seeds=1", "epochs=1")
        assert sweep("-m", *few).returncode == 0
    MAINS[name]([*quick, "--yes"] if "--clear" in quick else quick)
    assert capsys.readouterr().out


@pytest.mark.campaign
def test_the_notebook_runs_as_it_stands_there(folder: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(PROJECT / "docs" / "notebook.ipynb", as_version=4)
    kept = [cell["outputs"] for cell in notebook.cells if cell.cell_type == "code"]
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=600, coalesce_streams=True, resources=place).execute()
    made = [cell["outputs"] for cell in notebook.cells if cell.cell_type == "code"]
    assert [[each["output_type"] for each in outputs] for outputs in made] == [
        [each["output_type"] for each in outputs] for outputs in kept
    ]
    assert "data:image/png;base64," in made[1][0]["data"]["text/html"]


@pytest.mark.campaign
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "layer4" in (tmp_path / "site" / "freezing.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / "example" / "figures" / "accuracy_by_depth.png").exists()
    for page in ("index", "verdict"):
        shown = (tmp_path / "site" / f"{page}.html").read_text(encoding="utf-8")
        assert "glyphs_greek_cyrillic" in shown
        for link in re.findall(r'(?:src|href)="(example/[^"]+)"', shown):
            assert (tmp_path / "site" / link).exists(), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [link for link in links if link and "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_every_place_says_the_same_version() -> None:
    """That of a clone without tags (pyproject.toml), of the citation, and of the changelog's first section."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[.*", (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest
    (version,) = re.findall(r"\d+\.\d+\.\d+", newest[0])
    assert settings["tool"]["hatch"]["version"]["fallback-version"] == cited["version"] == version
