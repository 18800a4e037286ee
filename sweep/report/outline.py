"""The parts of a report in order, as blocks that report.md and report.html both lay out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sweep.report.answer import Row
from sweep.report.content import Content, Section
from sweep.report.mistakes import Mistakes

HOW_TO_READ = (
    "Test accuracy in %, mean ± half its 95 % interval over seeds and test images (two-way: Student's t for the seeds,"
    " with what images add; over seeds alone for results that do not say which images were right); of two seeds,"
    " both values. validation, where pretrained weights alone were trained, is their mean validation accuracy. frozen"
    " is"
    " freeze_depth of all blocks; keep marks the deepest depth whose mean is within the margin of the best, good the"
    " others that cannot be told from a depth within the margin. gain is pretrained less random weights at the same"
    " depth. With random weights, a depth above 0 is the control of frozen random features, and depth 0 is training"
    " from scratch for the same epochs: where epochs_trained in summary.csv is all of them, it may have more to learn."
    " The learning rate was chosen on validation data for each seed; the test split was read once, for the chosen one."
    " s/epoch is training time without evaluation and without the pass through the frozen blocks (prefix_seconds in"
    " table.csv), pretrained then random.",
    "The depths to keep describe the test curves; to choose a depth for use, compare val_mean in summary.csv.",
)
OF_COSTS = (
    "Training time of one model, the chosen learning rate's, mean over seeds, without the pass through the frozen"
    " blocks. front marks what no other row of its task beats in both accuracy and time. Memory is the peak of the"
    " whole process on a CPU, of the device's allocator on a GPU."
)
OF_TESTS = (
    "Primary tests are corrected by Holm, exploratory ones by Benjamini-Hochberg; p-values are one-sided in the rule's"
    " direction. lost is accuracy points below the task's best depth, by each way to choose one: the rule (deepest"
    " tried if similar with fewer classes, middle if similar with more, shallowest if dissimilar), one constant depth"
    " (the best of the other tasks), none frozen, head only, and the highest transferability score where there are"
    " scores."
)
OF_CHOICES = (
    "deepest good one is the probability of each depth to be that, given what seeds and images leave open; expected"
    " loss is in accuracy points against the best depth, whichever that is; training time is the depth's share of the"
    " slowest depth's; margin / gain is the margin as a share of what the best depth has above chance."
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
    """A part under its own heading. key: what it is called in links."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def outline(said: Content, running: bool = False) -> list[Part]:
    """Return the parts that have something to say, in order. running: what is missing may still come."""
    notes = [line for line in (said.note or "").splitlines() if line.strip()]
    parts = [
        Part("answer", "The answer", [*_each(said, _answer), *_text([*notes, *said.doubts])]),
        Part("accuracy", "Accuracy by frozen blocks", _pictures(said, "accuracy")),
        Part("cost", "Accuracy against training time", _costs(said)),
        Part("comparison", "Comparison", [*_each(said, _comparison), *_text(HOW_TO_READ)]),
        Part(
            "side",
            "Side by side",
            _table(said.side_by_side, "Test accuracy in % of the pretrained arm; * marks the best of each task."),
        ),
        Part("luck", "Where differences between depths come from", _table(said.luck, OF_LUCK)),
        Part(
            "epochs",
            "Epoch by epoch",
            _table(said.epochs, "Test accuracy in % after every epoch; nothing was chosen by it."),
        ),
        Part("verdict", "What the verdict rests on", [*_each(said, _verdict)]),
        Part("curves", "Learning curves", _pictures(said, "curves")),
        Part("mistakes", "What the models to keep mistake", [*_mistakes(said)]),
        Part("scores", "Transferability scores by depth", _pictures(said, "scores")),
        Part("notes", "Notes on images and weights", [Block("list", said.notes)] if said.notes else []),
        Part("missing", "Missing", _missing(said, running)),
        Part("setting", "Setting", [Block("facts", rows=[{"key": k, "value": v} for k, v in said.settings.items()])]),
    ]
    return [part for part in parts if part.blocks]


def _each(said: Content, blocks_of: Callable[[Section], Iterable[Block]]) -> Iterator[Block]:
    """Yield the blocks of every variant, under its label where it has one."""
    for section in said.sections:
        blocks = list(blocks_of(section))
        if blocks and section.variant.label:
            yield Block("heading", [section.variant.label])
        yield from blocks


def _answer(section: Section) -> Iterator[Block]:
    yield Block("list", section.plain)
    yield from _text([section.rule] if section.rule else [])
    yield from _text(section.warnings)


def _comparison(section: Section) -> Iterator[Block]:
    yield Block("table", rows=section.comparison)


def _verdict(section: Section) -> Iterator[Block]:
    yield from _text(section.findings)
    if section.tests:
        yield Block("table", rows=section.tests)
    yield from _text([section.equivalence] if section.equivalence else [])
    if section.kept:
        yield Block("table", rows=section.kept)
        yield from _text([OF_CHOICES])
    yield from _text([OF_TESTS] if section.tests else [])


def _costs(said: Content) -> list[Block]:
    found = list(_each(said, lambda section: [Block("table", rows=section.costs)] if section.costs else []))
    return [*_pictures(said, "cost"), *found, *_text([OF_COSTS])] if found else []


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


def _table(rows: Sequence[Row], caption: str) -> list[Block]:
    return [*_text([caption]), Block("table", rows=rows)] if rows else []


def _text(lines: Sequence[str]) -> list[Block]:
    return [Block("text", list(lines))] if lines else []
