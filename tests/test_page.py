"""report.html: what is in it, what cannot get into it, and when it is written."""

import base64
import dataclasses
import html.parser
import io
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_report import edit, with_facts, write_sweep

from sweep.config import Reference, StudyConfig
from sweep.report import content, costs, figures, live, mistakes, page, record, render, table
from sweep.report.__main__ import main
from sweep.report.record import Record

VOID = {"meta", "link", "input", "br", "img", "hr"}
SVG_EMPTY = {"path", "use", "circle", "rect"}  # written <path/>
EVIL = "<img src=x onerror=alert(1)>&\"' </script><script>alert(2)</script> {{ 7 * 7 }}"


class Page(html.parser.HTMLParser):
    """What a reader of the page finds: tags with their attributes, headings, text; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((tag, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings[-1] = (self.open[-1], self.headings[-1][1] + data)
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def enrich(member: Record) -> None:
    """Add what a sweep of today records: times, memory, scores and curves of several epochs."""
    depth = member.facts.freeze_depth
    member.train_seconds, member.peak_memory_bytes = 4.0 - 0.9 * depth, 2**20 * (900 - 100 * depth)
    member.curves = {"train_loss": [2.0, 1.0, 0.5], "val_accuracy": [0.1, 0.4, 0.5], "epoch_seconds": [0.5] * 3}
    if member.facts.pretrained:
        member.scores = {"knn": 0.5 + 0.01 * depth, "logme": -abs(depth - 2) / 2}


def built(root: Path) -> Page:
    return Page((root / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """Return a finished sweep that has something to say in every part."""
    points = write_sweep(tmp_path)
    edit(tmp_path, points, enrich)
    return tmp_path


def test_parts_come_in_order_with_headings_and_alternatives(rich: Path) -> None:
    render.build(rich)
    found = built(rich)
    assert [text for tag, text in found.headings if tag == "h2"] == [
        "The answer",
        "Accuracy by frozen blocks",
        "Accuracy against training time and memory",
        "Comparison",
        "What the verdict rests on",
        "Learning curves",
        "Transferability scores by depth",
        "Missing",
        "Setting",
    ]
    levels = [int(tag[1]) for tag, _ in found.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert found.all("html")[0]["lang"] == "en"
    assert {attributes.get("scope") for attributes in found.all("th")} == {"col", "row"}
    pictures = [attributes for tag, attributes in found.tags if attributes.get("role") == "img"]
    assert len(pictures) == 3 * 4
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in pictures)
    targets = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    links = [attributes["href"] or "" for attributes in found.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    identifiers = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


COSTS = ((0, 4), (2, 2.2))  # depth, seconds


def test_the_answer_is_in_plain_words(rich: Path) -> None:
    render.build(rich)
    text = " ".join(built(rich).text.split())
    assert "digits: keep 4 of 5 blocks frozen (test 90.1 %, validation 50.0 %, 0.4 s to train). No other depth" in text
    assert "Ended: every point has its result." in text
    points = table.read_manifest(rich)[0]
    edit(rich, points, lambda member: setattr(member, "test_accuracy", 0.8 + 0.01 * member.seed))
    render.build(rich)
    text = " ".join(built(rich).text.split())
    cells = [rf"{depth} \(\d+ % likely; test 80.5 %, validation 50.0 %, {time} s to train\)" for depth, time in COSTS]
    assert re.search(f"May be as good: {', '.join(cells)}\\.", text)


def test_the_page_needs_nothing_else_and_runs_its_own_script_alone(rich: Path) -> None:
    render.build(rich)
    text = (rich / "report.html").read_text(encoding="utf-8")
    found = built(rich)
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:|//|file:)""", text)
    assert [attributes for tag, attributes in found.tags if "src" in attributes] == []
    assert {attributes["href"] for attributes in found.all("link")} == {"data:,"}
    policy = next(each["content"] for each in found.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'")
    assert "script-src 'sha256-" in (policy or "")
    assert len(found.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_names_of_users_cannot_become_elements(rich: Path) -> None:
    points = table.read_manifest(rich)[0]
    renamed = with_facts(points, lambda each: {"task": EVIL if each.task == "digits" else each.task, "source": EVIL})
    varied = [dataclasses.replace(point, varied={"key": f"{EVIL}{point.facts.pretrained}"}) for point in renamed]
    record.write_failure(record.job_folder(rich, points[0].job), EVIL, "")
    for seed in (0, 1):
        (record.job_folder(rich, points[0].job) / f"seed-{seed}.json").unlink()
    study = StudyConfig(note=EVIL, reference=[Reference(EVIL, [0.1], [1.0])], allow_missing=True)
    (rich / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": [EVIL], "hydra": []}}}))
    for given in (renamed, varied):
        render.build(rich, given, study)
        found = built(rich)
        assert found.all("img") == []
        assert len(found.all("script")) == 1
        assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
        assert EVIL in found.text, "it is shown as it is"
        assert "49" not in re.findall(r"</script><script>alert\(2\)</script> (\S+)", found.text)


def test_the_command_is_the_one_that_was_given_and_never_run(rich: Path) -> None:
    render.build(rich)
    assert "python -m sweep -m" not in (rich / "report.html").read_text()
    overrides = {
        "task": ["data.root=my photos", "freeze_depth=0,2"],
        "hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=local"],
    }
    (rich / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    render.build(rich)
    command = "python -m sweep -m 'data.root=my photos' freeze_depth=0,2 hydra/launcher=local"
    assert command in built(rich).text
    assert "data.root=my photos" in (rich / "report.md").read_text()
    for broken in ("!!python/object/apply:os.system ['touch hit']", "- a", "", "hydra: {overrides: 3}"):
        (rich / "multirun.yaml").write_text(broken)
        assert render.command(rich) is None
    assert not Path("hit").exists()


def test_a_page_reloads_while_the_sweep_runs_and_no_longer(rich: Path) -> None:
    points = table.read_manifest(rich)[0]
    for point in points[4:]:
        shutil.rmtree(record.job_folder(rich, point.job))
    record.write_failure(record.job_folder(rich, points[5].job), "memory is short", "")
    render.grow(rich, 3)
    running = built(rich)
    assert float(running.all("html")[0]["data-written"] or 0) == pytest.approx(time.time(), abs=60)
    assert [each for each in running.all("meta") if each.get("http-equiv") == "refresh"], "also without a script"
    assert "4 of 18 points are finished" in " ".join(running.text.split())
    assert running.all("progress")[0]["value"] == "4"
    assert "memory is short" in running.text
    assert "digits: keep 4 of 5" in running.text, "what can be said so far"
    assert f"{points[6].job} seed" not in running.text, "what is to come is counted, not listed"
    assert not (rich / "report.md").exists()
    render.build(rich)
    ended = built(rich)
    assert "data-written" not in ended.all("html")[0]
    assert not [each for each in ended.all("meta") if each.get("http-equiv") == "refresh"]
    assert "Ended, with results missing" in " ".join(ended.text.split())
    assert f"{points[6].job} seed 0, 1: missing" in ended.text


def test_a_page_is_written_after_points_but_takes_little_time(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []

    def grow(root: Path, every: float, old: Collection[str]) -> None:
        time.sleep(0.4)
        (root / page.NAME).write_text("x")
        written.append(every)

    monkeypatch.setattr(render, "grow", grow)
    growing = live.Growing(rich)
    growing.refresh(force=True)
    for _ in range(20):
        growing.refresh()
    assert len(written) == 1
    assert growing.pause >= 10, "25 times as long as it took, at least"
    before = time.time() - growing.pause - 1
    os.utime(rich / page.NAME, (before, before))
    growing.refresh()
    growing.refresh()
    assert len(written) == 2
    live.Growing(rich).refresh()
    assert len(written) == 2, "another process heeds it"


def test_results_that_are_trained_anew_count_when_they_are_there(rich: Path) -> None:
    points = table.read_manifest(rich)[0]
    growing = live.Growing(rich, {point.job: point.seeds for point in points[:4]})

    def state() -> str:
        growing.refresh(force=True)
        found = re.search(r"\d+ of 18 points are finished", " ".join(built(rich).text.split()))
        return found[0] if found else ""

    assert state().startswith("14 of 18")
    folder = record.job_folder(rich, points[0].job)
    for seed, finished in zip(points[0].seeds, ("14 of 18", "15 of 18"), strict=True):
        record.write_members(folder, seed, record.read_members(folder, seed) or [])
        assert state().startswith(finished), "a point counts when all of its seeds are new"
    again = live.Growing(rich, {point.job: point.seeds for point in points})
    again.refresh(force=True)
    assert "0 of 18 points are finished" in " ".join(built(rich).text.split())
    live.Growing(rich).refresh(force=True)
    assert "18 of 18 points are finished" in " ".join(built(rich).text.split())


def test_a_page_that_cannot_be_written_stops_no_sweep(
    rich: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (rich / page.NAME).mkdir()
    growing = live.Growing(rich)
    growing.refresh(force=True)
    growing.refresh(force=True)
    assert capsys.readouterr().err.count("is not kept up") == 1


def test_a_sweep_that_is_cut_short_says_that_it_ended(rich: Path) -> None:
    def cut_short() -> None:
        with live.Growing(rich).kept_up():
            assert "data-written" in built(rich).all("html")[0]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert "data-written" not in built(rich).all("html")[0]


def test_old_folders_have_a_page_too(tmp_path: Path) -> None:
    write_sweep(tmp_path)  # no times, memory, scores, bits, command
    main([str(tmp_path)])
    titles = [text for tag, text in built(tmp_path).headings if tag == "h2"]
    assert "Comparison" in titles
    assert "Accuracy against training time and memory" not in titles
    main([str(tmp_path), "--to", str(tmp_path / "merged")])
    assert "Comparison" in built(tmp_path / "merged").text


def test_nothing_trained_yet_has_a_page(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    shutil.rmtree(tmp_path / "jobs")
    render.grow(tmp_path, 3)
    assert f"0 of {len(points)} points" in " ".join(built(tmp_path).text.split())


def test_a_thousand_records_make_a_small_page(rich: Path) -> None:
    points = [dataclasses.replace(point, seeds=list(range(28))) for point in table.read_manifest(rich)[0]]
    for point in points:
        folder = record.job_folder(rich, point.job)
        members = record.read_members(folder, 0) or []
        for seed in point.seeds:
            record.write_members(folder, seed, [dataclasses.replace(each, seed=seed) for each in members])
    table.write_manifest(rich, points, StudyConfig())
    assert sum(len(each.members) for each in table.read(rich, points)) == 1008
    render.grow(rich, 3)
    assert 100_000 < (rich / "report.html").stat().st_size < 5_000_000


def test_memory_has_pictures_where_it_is_of_the_point_alone(rich: Path) -> None:
    """On a GPU; on a CPU the process keeps the peak of points before."""
    points = table.read_manifest(rich)[0]
    made = {}
    for device in ("cpu, 2 threads (x86_64)", "NVIDIA H100"):
        edit(rich, points, lambda member, device=device: setattr(member, "device", device))  # type: ignore[misc]
        render.build(rich)
        labels = [attributes.get("aria-label") or "" for _, attributes in built(rich).tags]
        made[device[:3]] = [label for label in labels if label.startswith("Test accuracy against peak memory")]
    assert made["cpu"] == []
    assert len(made["NVI"]) == 3
    assert "pretrained, 4 frozen: 90.0, 90.2 %" in made["NVI"][0]
    # Of every task the deepest freeze takes least, and what is as good or better elsewhere takes more.
    on_front = [[each.split(":")[0] for each in label.split("; ") if "(front)" in each] for label in made["NVI"]]
    assert [len(each) for each in on_front] == [1, 2, 3]
    assert "pretrained, 4 frozen" in on_front[1]


def test_the_pareto_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    seconds, accuracy = rng.integers(1, 6, 40) / 1.0, rng.integers(1, 6, 40) / 10
    found = costs.front(seconds.tolist(), accuracy.tolist())
    for index, on_front in enumerate(found):
        better = (seconds <= seconds[index]) & (accuracy >= accuracy[index])
        strictly = (seconds < seconds[index]) | (accuracy > accuracy[index])
        assert on_front == (not (better & strictly).any())
    assert costs.front([float("nan"), 1.0], [0.5, float("nan")]) == [False, False]


def test_tables_for_papers_and_figures_that_scale(rich: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "50%_of $x$ \\input{a} & | #1\n\\\\ <b>"
    points = table.read_manifest(rich)[0]
    points = with_facts(points, lambda each: {"task": evil if each.task == "digits" else each.task})
    table.write_manifest(rich, points, StudyConfig())
    main([str(rich), "--figures", "svg,pdf"])
    lines = (rich / "table.tex").read_text().splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("\\begin{tabular}{llrrrrrr}", "\\toprule", "\\end{tabular}")
    assert len(lines) == 6 + 9
    body = [line for line in lines[4:-2] if line.startswith(" 50")]
    assert len(body) == 3
    plain = re.sub(r"\\[&%$#_{}]", "", body[0].replace("$\\pm$", ""))
    assert plain.count("&") == 7
    assert "\\input" not in plain
    assert not set("%$#_") & set(plain)
    shown = (rich / "table.md").read_text().splitlines()
    assert len({line.count("|") for line in shown}) == 1
    assert "<b>" not in "".join(shown)
    before = {path.name: path.read_bytes() for path in (rich / "figures").iterdir()}
    assert sorted(before) == [f"accuracy_by_depth.{kind}" for kind in ("pdf", "png", "svg")]
    assert before["accuracy_by_depth.pdf"].startswith(b"%PDF")
    main([str(rich), "--figures", "svg,pdf"])
    assert {path.name: path.read_bytes() for path in (rich / "figures").iterdir()} == before
    main([str(rich)])
    assert [path.name for path in (rich / "figures").iterdir()] == ["accuracy_by_depth.png"]
    with pytest.raises(SystemExit) as stopped:
        main([str(rich), "--figures", "gif"])
    assert stopped.value.code == 2
    assert "--figures gif: 'gif' is none of png, svg, pdf" in capsys.readouterr().err


def test_many_tasks_are_small_multiples(rich: Path) -> None:
    points = [
        dataclasses.replace(each, job=f"{each.job}-{number}")
        for number in range(4)
        for point in table.read_manifest(rich)[0]
        if point.facts.pretrained
        for each in with_facts([point], lambda facts: {"task": f"{facts.task}-{number}"})  # noqa: B023
    ]
    said = content.gather("x", table.collect("x", table.read(rich, points)), table.curves([]), StudyConfig())
    width, height = figures.draw(said.sections[0].variant).get_size_inches()
    assert width < 14
    assert height < 3 * 2.5 + 1, "three rows of five"


def _jpeg() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "gray").save(buffer, format="jpeg")
    return base64.b64encode(buffer.getvalue()).decode()


JPEG = _jpeg()


def keep_tests(root: Path, classes: tuple[str, ...]) -> None:
    """Leave predictions of ten images of every class: the last is taken for the first class in every second seed."""
    labels = np.repeat(np.arange(len(classes)), 10)
    for point in table.read_manifest(root)[0]:
        for seed in point.seeds:
            predicted = labels.copy()
            predicted[-1] = 0 if seed else labels[-1]
            predicted[0] = 1
            folder = record.job_folder(root, point.job)
            jpeg = JPEG
            worst = ((0, jpeg), (len(labels) - 1, jpeg)) if seed else ((0, jpeg),)
            mistakes.write(folder, seed, mistakes.Tested(classes, labels, predicted, worst))


def test_mistakes_of_the_model_to_keep_are_shown(rich: Path) -> None:
    classes = (EVIL, "dog", "cat")
    keep_tests(rich, classes)
    render.build(rich)
    found = built(rich)
    assert "What the models to keep mistake" in [text for tag, text in found.headings if tag == "h2"]
    assert len(found.all("caption")) == 3, "a matrix per task"
    text = " ".join(found.text.split())
    assert "digits (pretrained, 4 frozen, 2 seeds): true classes down" in text
    pictures = found.all("img")
    assert len(pictures) == 3 * 2
    assert all((each["src"] or "").startswith("data:image/jpeg;base64,") for each in pictures)
    assert pictures[0]["alt"] == f"test image of class {EVIL}, taken for dog"
    assert "wrong in 2 of 2 seeds" in text
    assert "wrong in 1 of 2 seeds" in text
    assert len(found.all("script")) == 1
    lines = (rich / "report.md").read_text().split("## What the models to keep mistake")[1].splitlines()
    cells = [cell.strip() for cell in lines[6].split("|")]
    assert cells[1:6] == ["digits", report_plain(EVIL), "dog", "2", "10.0"]


def report_plain(text: str) -> str:
    return " ".join(render.plain(text).split())


def test_many_classes_are_a_list_and_no_matrix(rich: Path) -> None:
    keep_tests(rich, tuple(map(str, range(30))))
    render.grow(rich, None)
    assert built(rich).all("caption") == []
    assert "of its class, %" in built(rich).text


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["one"]},
        {"count": 10**9},
        {"predicted": "no"},
        {"labels": None},
        {"worst": [[10**6, ""]]},
        {"worst": [[0, "<script>"]]},
        {"classes": 3},
    ],
)
def test_predictions_that_do_not_fit_are_left_out(rich: Path, change: dict[str, object]) -> None:
    keep_tests(rich, ("a", "b"))
    folder = record.job_folder(rich, table.read_manifest(rich)[0][0].job)
    assert mistakes.read(folder, 0) is not None
    path = folder / "tested-0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert mistakes.read(folder, 0) is None


def test_numbers_of_points_that_nearly_coincide_can_be_read(rich: Path) -> None:
    points = table.read_manifest(rich)[0]

    def crowd(member: Record) -> None:
        member.train_seconds = 4 + member.facts.freeze_depth / 50
        member.test_accuracy = 0.9 if member.facts.pretrained else 0.2

    edit(rich, points, crowd)
    render.build(rich)
    panels = (rich / "report.html").read_text().partition('aria-label="Test accuracy against training time')[2]
    drawn = panels.partition("</svg>")[0]
    found = re.findall(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>([024])</text>', drawn)
    places = [np.array((float(x), float(y))) for x, y, _ in found if float(x) > 40][-6:]  # after those of the axes
    assert len(places) == 6
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(places, 2)) >= 7
