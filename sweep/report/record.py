"""Records on disk are the only truth: what a member leaves behind, written whole or not at all.

outputs/<name>/sweep.json                     the points of the last multirun, and the seeds each one owes
outputs/<name>/jobs/<job>/config.yaml         one point's resolved config
outputs/<name>/jobs/<job>/seed-<s>.json       its members of one seed, with their epoch curves
outputs/<name>/jobs/<job>/tested-<s>.json     what its chosen model takes the test images for (mistakes.py)
outputs/<name>/jobs/<job>/predictions-<s>.csv the same by the images' names, where they have names, for the user
outputs/<name>/jobs/<job>/notes.json          what was said of its images and weights
outputs/<name>/jobs/<job>/failure.json        why it stopped, if it did
"""

import base64
import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep import paths
from sweep.config import digest
from sweep.data.types import class_weights
from sweep.paths import read_json, write_json
from sweep.plan.facts import RESULTS_VERSION, Facts
from sweep.stats.types import Floats, Ints

STATUSES = ("ok", "diverged", "failed", "missing")
SHARES = ("val_accuracy", "test_accuracy", "test_balanced_accuracy", "source_accuracy")
OLD_NAMES = {"block": "matched_group", "prefix": "feed"}  # of columns, in version 0.1


@dataclass
class Record:
    """One member: one seed and learning rate of one point. Shares are in 0..1, times in seconds."""

    facts: Facts  # of its point
    job: str
    status: str  # ok | diverged | failed | missing
    seed: int
    lr: float | None = None
    lr_given: str | None = None  # the learning rates that were asked for; others were tried beyond their ends
    lr_edge: str | None = None  # of the selected: lower or upper, if it is the lowest or highest tried; else none
    selected: bool | None = None  # whether this lr had the best validation accuracy of its seed
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    metric: str | None = None  # what the next two are: accuracy (also if null), or balanced_accuracy
    val_accuracy: float | None = None  # after the last epoch
    test_accuracy: float | None = None  # read once, for the selected lr only
    test_balanced_accuracy: float | None = None  # mean over classes, whatever the metric
    test_loss: float | None = None  # nats
    loss: float | None = None  # training, last epoch, nats
    trainable_params: int | None = None
    frozen_params: int | None = None
    feed: str | None = None  # what was trained on: none | cached | recomputed | augmented | tracked
    prefix_seconds: float | None = None  # in the frozen blocks; 0 where another member of the job paid
    together: int | None = None  # members that were trained at once; each has an equal share of the time
    epochs_trained: int | None = None  # of at most facts.epochs
    train_seconds: float | None = None
    seconds_per_epoch: float | None = None
    peak_memory_bytes: int | None = None  # of the process on a CPU, of the device's allocator on CUDA
    device: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    source_accuracy: float | None = None  # of the pretrained weights on their own task, where known
    similarity: float | None = None  # of the task to the source: 0 = the source itself, 1 = its pixels permuted
    similarity_low: float | None = None  # 95 % interval over images
    similarity_high: float | None = None
    similar: bool | None = None  # whether that is nearer to the source than to its permuted pixels; None = undecided
    distances: dict[str, float] = field(default_factory=dict)  # to the source, by name, with _low and _high
    scores: dict[str, float] = field(default_factory=dict)  # transferability of this depth's features, by name
    error: str | None = None
    certificate: dict[str, str] = field(default_factory=dict)  # of the frozen tensors, before and after
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    val_correct: str | None = None  # which validation images of its fold are classified right; see unpacked()
    test_correct: str | None = None  # of the selected: which test images are
    val_classes: str | None = None  # with balanced accuracy: of which class each image is; see unpacked_numbers()
    test_classes: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the member in one level: job and status, the point's facts, then the rest."""
        own = {name: value for name, value in vars(self).items() if name != "facts"}
        return {"job": self.job, "status": self.status, **vars(self.facts), **own}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Record":
        """Return the member that as_row() describes; raise TypeError if a column is unknown or lacks.

        Version 0.1 called the matched group a block, and the feed a prefix.
        """
        columns = {OLD_NAMES.get(name, name): value for name, value in row.items()}
        facts = {each.name: columns.pop(each.name) for each in dataclasses.fields(Facts) if each.name in columns}
        return cls(Facts(**facts), **columns)


def certified(certificate: Mapping[str, str]) -> str | None:
    """Return which frozen tensors are the same after training: all, or the parameters; else "changed"."""
    if not certificate:
        return None
    return certificate["covers"] if certificate["before"] == certificate["after"] else "changed"


def packed(correct: npt.NDArray[np.bool_]) -> str:
    """Return one bit per image, as text."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpacked(text: str, count: int) -> npt.NDArray[np.bool_]:
    """Return (count,): what packed() was given."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def packed_numbers(numbers: Ints) -> str:
    """Return numbers of 0 to 65535 as text."""
    return base64.b64encode(zlib.compress(numbers.astype("<u2").tobytes())).decode()


def unpacked_numbers(text: str, count: int) -> Ints:
    """Return (count,): what packed_numbers() was given; raise ValueError or zlib.error for another text."""
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 2 * count + 1)
    if len(raw) != 2 * count:
        raise ValueError(f"{len(raw)} bytes of {count} numbers")
    return np.frombuffer(raw, "<u2").astype(np.int64)


def outcomes(correct: str, classes: str | None, count: int) -> Floats:
    """Return (count,), whose mean is the accuracy, and whose spread says how well it is known.

    correct, classes: see Record.test_correct and test_classes.
    """
    right = unpacked(correct, count)
    return right.astype(float) if classes is None else balanced(right, unpacked_numbers(classes, count))


def balanced(right: npt.NDArray[np.bool_], labels: Ints) -> Floats:
    """Return (N,), the balanced accuracy plus what each image moves it by, as in a stratified sample.

    That is its distance from the mean of its class, times its weight (Cochran 1977, ch. 5).
    """
    members, weights = np.bincount(labels), class_weights(labels)
    own = np.bincount(labels, right) / members.clip(min=1)
    unbiased = np.sqrt(members / (members - 1).clip(min=1))
    values: Floats = np.mean(weights * right) + (unbiased[labels] * weights) * (right - own[labels])
    return values


def job_folder(root: Path, job: str) -> Path:
    return root / "jobs" / job


def write_members(folder: Path, seed: int, members: list[Record]) -> None:
    """Write one seed's members; whoever reads sees all of them or none."""
    rows = paths.finite([member.as_row() for member in members])
    content = {"results_version": RESULTS_VERSION, "checksum": digest(rows), "members": rows}
    write_json(folder / f"seed-{seed}.json", content)


def read_members(folder: Path, seed: int, n_blocks: int | None = None) -> list[Record] | None:
    """Return one seed's members, or None if there is no whole, undamaged file of them.

    n_blocks: of the model as it is cut now; one that was cut otherwise froze other layers at the same freeze_depth.
    """
    try:
        return _read_members(folder, seed, n_blocks)
    except ValueError:
        return None


def damage(folder: Path, seed: int, n_blocks: int | None = None) -> str | None:
    """Return what is wrong with this seed's file; None if it is whole, of another version, or not there."""
    try:
        _read_members(folder, seed, n_blocks)
    except ValueError as error:
        return f"{folder / f'seed-{seed}.json'}: {error}"
    return None


def _read_members(folder: Path, seed: int, n_blocks: int | None) -> list[Record] | None:
    """Return one seed's members; None if there is no file, or one of another version.

    raises: ValueError if it is damaged, or its model was cut into another number of blocks.

    Files of before there were checksums have none; what can be seen in them is looked at in all files.
    """
    path = folder / f"seed-{seed}.json"
    if not path.exists():
        return None
    content = read_json(path)
    if content is None:
        raise ValueError("not whole")
    if content.get("results_version") != RESULTS_VERSION:
        return None
    rows = content.get("members")
    if "checksum" in content and content["checksum"] != digest(rows):
        raise ValueError("changed since it was written (its checksum does not fit)")
    try:
        members = [Record.of_row(row) for row in rows or []]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a record ({error})") from error
    wrong = _wrong(members, folder.name, seed) or _cut_otherwise(members, n_blocks)
    if wrong:
        raise ValueError(wrong)
    return members


def _cut_otherwise(members: Sequence[Record], n_blocks: int | None) -> str | None:
    """Return what is to be said of members whose model had another number of blocks than now, or None.

    The job's name does not say it: freeze_depth counts blocks, and where they begin is for the cutter to say.
    """
    for member in members:
        facts = member.facts
        if n_blocks is not None and facts.n_blocks != n_blocks:
            return f"made when {facts.model} was cut into {facts.n_blocks} blocks; it has {n_blocks} now"
    return None


def _wrong(members: Sequence[Record], job: str, seed: int) -> str | None:
    """Return what cannot be right in one seed's members, or None."""
    for member in members:
        if (member.job, member.seed) != (job, seed):
            return f"belongs to seed {member.seed} of {member.job}"
        if member.status not in STATUSES:
            return f"status {member.status}"
        for name in SHARES:
            value = getattr(member, name)
            if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
                return f"{name} is {value}, not a share from 0 to 1"
    chosen = [member for member in members if member.selected]
    if len(chosen) > 1:
        return f"{len(chosen)} learning rates are selected, not one"
    if any(member.test_accuracy is None for member in chosen):
        return "the selected learning rate has no test accuracy"
    return None


def finished(folder: Path, seed: int, n_blocks: int | None = None) -> bool:
    """Return whether this seed has its result; a failed or diverged one has not, and is tried again."""
    members = read_members(folder, seed, n_blocks)
    return bool(members) and any(member.selected and member.status == "ok" for member in members or [])


def missing_seeds(root: Path, job: str, seeds: Sequence[int], n_blocks: int | None = None) -> list[int]:
    """Return which of these seeds have no result of this job yet. n_blocks: see read_members()."""
    return [seed for seed in seeds if not finished(job_folder(root, job), seed, n_blocks)]


def write_notes(folder: Path, notes: Sequence[str]) -> None:
    write_json(folder / "notes.json", {"notes": [*notes]})


def read_notes(folder: Path) -> list[str]:
    """Return what was said of the job's images and weights before it was trained, a sentence each."""
    notes = (read_json(folder / "notes.json") or {}).get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def write_failure(folder: Path, error: str, details: str) -> None:
    write_json(folder / "failure.json", {"error": error, "traceback": details})


def read_failure(folder: Path) -> str | None:
    """Return the one line that says why the job stopped, or None."""
    content = read_json(folder / "failure.json")
    return None if content is None else str(content.get("error"))


def clear_failure(folder: Path) -> None:
    (folder / "failure.json").unlink(missing_ok=True)
