"""The parts of a report in order, as blocks that terminal, notebook, report.md and report.html all lay out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sweep.report.answer import Row
from sweep.report.content import Content, Section
from sweep.report.mistakes import Mistakes

MANY = 9  # tasks
HOW_TO_READ = (
    "Test accuracy in %, mean ± half its 95 % interval over seeds and test images (two-way: Student's t for the seeds,"
    " with what images add; over seeds alone for results that do not say which images were right); of two seeds,"
    " both values. validation, where pretrained weights alone were trained, is their mean validation accuracy. frozen"
    " is freeze_depth of all blocks; keep marks the deepest depth whose mean is within the margin of the best, good"
    " others that may be, with a probability of 1 % or more. gain is pretrained less random weights at the same depth."
    " With random weights, a depth above 0 is the control of frozen random features, and depth 0 is training from"
    " scratch for the same epochs: where epochs_trained in summary.csv is all of them, it may have more to learn. The"
    " learning rate was chosen on validation data for each seed; the test split was read once, for the chosen one."
    " s/epoch is training time without evaluation and without the pass through the frozen blocks (prefix_seconds in"
    " table.csv), pretrained then random.",
    "The depths to keep describe the test curves; to choose a depth for use, compare val_mean in summary.csv.",
)
IN_SHORT = (
    "Test accuracy in %, mean ± half the 95 % interval over seeds and test images (of two seeds, both values);"
    " s/epoch: pretrained, random.",
    "keep: the deepest depth whose mean is at most {0:g} % below the best; good: others that may be, with a probability"
    " of 1 % or more.",
)
OF_COSTS = (
    "Training time of one model, the chosen learning rate's, mean over seeds: its epochs with their validation, and its"
    " share of what is done once; without the pass through the frozen blocks. front marks what no other row of its task"
    " beats in both accuracy and time, of which a tenth is noise. Memory is the peak of the"
    " device's allocator on a GPU; on a CPU it is of the whole process, which later points share with those before"
    " them, so that there is no picture of it."
)
OF_TESTS = (
    "Primary tests are corrected by Holm, exploratory ones by Benjamini-Hochberg; p-values are one-sided in the rule's"
    " direction. lost is accuracy points below the task's best depth, by each way to choose one: the rule (deepest"
    " tried if similar with fewer classes, middle if similar with more, shallowest if dissimilar), one constant depth"
    " (the best of the other tasks), none frozen, head only, and the highest transferability score where there are"
    " scores."
)
OF_CHOICES = (
    "to keep is the probability of each depth to be the deepest good one, given what seeds and images leave open;"
    " expected loss is in accuracy points against the best depth, whichever that is; training time is the depth's share"
    " of the slowest depth's; margin / above chance is the margin as a share of what the best depth has above chance;"
    " classes are the task's and the source's; distance is of its images to the source's (0: the source's own other"
    " half, 1: its pixels shuffled)."
)
OF_LUCK = (
    "Standard deviation in accuracy points, mean over tasks: of source networks, of seeds under one source, of the mean"
    " over these test images, and of tasks."
)


@dataclass(frozen=True)
class Block:
    """Something that a part says.

    kind: heading, text (a paragraph per line), list, table (rows), facts (rows of key and value), picture, matrix or
        images (of mistakes).
    picture: which kind of panels; label: of which variant.
    """

    kind: str
    lines: Sequence[str] = ()
    rows: Sequence[Row] = ()
    picture: str = ""
    mistakes: Mistakes | None = None
    label: str = ""


@dataclass(frozen=True)
class Part:
    """A part under its own heading.

    key: what it is called in links.
    brief: what of it is shown where there is room for little, in a terminal (less pictures) and a notebook.
    """

    key: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)
    brief: Sequence[Block] = field(default_factory=list)


def outline(said: Content, running: bool = False) -> list[Part]:
    """Return the parts that have something to say, in order. running: what is missing may still come."""
    notes = [line for line in (said.note or "").splitlines() if line.strip()]
    answer = [*_each(said, _answer), *_text([*notes, *said.doubts])]
    accuracy = _pictures(said, "accuracy")
    tables = [*_each(said, _comparison)]
    parts = [
        Part("answer", "The answer", answer, answer),
        Part("accuracy", "Accuracy by frozen blocks", accuracy, accuracy),
        Part("cost", "Accuracy against training time and memory", _costs(said)),
        Part("comparison", "Comparison", [*tables, *_text(HOW_TO_READ)], [*tables, *_text(_in_short(said))]),
        _table(
            "side",
            "Side by side",
            said.side_by_side,
            "Test accuracy in % of the pretrained arm; * marks the best of each task.",
        ),
        _table("luck", "Where differences between depths come from", said.luck, OF_LUCK),
        _table(
            "epochs",
            "Epoch by epoch",
            said.epochs,
            "Test accuracy in % after every epoch; nothing was chosen by it.",
        ),
        Part("verdict", "What the verdict rests on", [*_each(said, _verdict)], [*_each(said, _findings)]),
        Part("curves", "Learning curves", _pictures(said, "curves")),
        Part("mistakes", "What the models to keep mistake", [*_mistakes(said)]),
        Part("scores", "Transferability scores by depth", _pictures(said, "scores")),
        Part("map", "How near the tasks are to the source", [*_pictures(said, "map")]),
        Part("certificate", "Frozen means frozen", _text(said.certificate)),
        Part("notes", "Notes on images and weights", [Block("list", said.notes)] if said.notes else []),
        Part("missing", "Missing", _missing(said, running), _titled("Missing", said.missing)),
        Part("setting", "Setting", [Block("facts", rows=[{"key": k, "value": v} for k, v in said.settings.items()])]),
    ]
    return [part for part in parts if part.blocks]


def shown(parts: Sequence[Part], drawn: Callable[[Block], object]) -> list[Part]:
    """Return the parts that are more than pictures which cannot be drawn. drawn: of a picture, whether it can."""
    return [part for part in parts if any(block.kind != "picture" or drawn(block) for block in part.blocks)]


def _each(said: Content, blocks_of: Callable[[Section], Iterable[Block]]) -> Iterator[Block]:
    """Yield the blocks of every variant, under its label where it has one."""
    for section in said.sections:
        blocks = list(blocks_of(section))
        if blocks and section.variant.label:
            yield Block("heading", [section.variant.label])
        yield from blocks


def _answer(section: Section) -> Iterator[Block]:
    rule = _text([section.rule] if section.rule else [])
    tasks = [Block("list", section.plain)]
    yield from rule + tasks if len(section.plain) > MANY else tasks + rule  # of a study, the rule is what is asked
    yield from _text(section.warnings)


def _comparison(section: Section) -> Iterator[Block]:
    yield Block("table", rows=section.comparison)


def _findings(section: Section) -> Iterator[Block]:
    yield from _text(section.findings)


def _verdict(section: Section) -> Iterator[Block]:
    yield from _findings(section)
    if section.tests:
        yield Block("table", rows=section.tests)
    yield from _text([section.equivalence] if section.equivalence else [])
    if section.kept:
        yield Block("table", rows=section.kept)
        yield from _text([OF_CHOICES])
    yield from _text([OF_TESTS] if section.tests else [])


def _costs(said: Content) -> list[Block]:
    found = list(_each(said, lambda section: [Block("table", rows=section.costs)] if section.costs else []))
    drawn = [*_pictures(said, "cost"), *_pictures(said, "memory")]
    return [*drawn, *found, *_text([OF_COSTS])] if found else []


def _mistakes(said: Content) -> Iterator[Block]:
    pairs = [row for each in said.mistakes for row in each.pairs()]
    if said.mistakes:
        yield from _text(["The most frequent confusions of test images, over seeds. Nothing was chosen by them."])
    if pairs:
        yield Block("table", rows=pairs)
    for each in said.mistakes:
        label = f"{each.task}, {each.variant}" if each.variant else each.task
        if each.matrix:
            yield Block("matrix", mistakes=each, label=label)
        if each.thumbnails:
            yield Block("images", mistakes=each, label=label)


def _pictures(said: Content, kind: str) -> list[Block]:
    return [Block("picture", picture=kind, label=section.variant.label) for section in said.sections]


def _missing(said: Content, running: bool) -> list[Block]:
    if not said.missing:
        return _text(["Nothing: every point of the sweep has its result."])
    if not running:
        return [Block("list", said.missing)]
    failed = [line for line in said.missing if not line.endswith(": missing")]
    to_come = len(said.missing) - len(failed)
    listed = [Block("list", failed)] if failed else []
    return [*listed, *_text([f"Still to come: {to_come} points, or seeds of them."])]


def _table(key: str, title: str, rows: Sequence[Row], caption: str) -> Part:
    """Return a part that is a table under its caption; in short, under its title as well."""
    blocks = [*_text([caption]), Block("table", rows=rows)] if rows else []
    return Part(key, title, blocks, [Block("heading", [title]), *blocks] if rows else [])


def _titled(title: str, lines: Sequence[str]) -> list[Block]:
    return [Block("heading", [title]), Block("list", lines)] if lines else []


def _in_short(said: Content) -> list[str]:
    margin = 100 * said.sections[0].variant.verdict.margin if said.sections else 1
    return [line.format(margin) for line in IN_SHORT]


def _text(lines: Sequence[str]) -> list[Block]:
    return [Block("text", list(lines))] if lines else []
