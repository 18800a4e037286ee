"""Records on disk are the only truth: what a member leaves behind, written whole or not at all.

outputs/<name>/sweep.json                     the points of the last multirun, and the seeds each one owes
outputs/<name>/jobs/<job>/config.yaml         one point's resolved config
outputs/<name>/jobs/<job>/seed-<s>.json       its members of one seed, with their epoch curves
outputs/<name>/jobs/<job>/failure.json        why it stopped, if it did
"""

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Part of every job's identity. Raise it when a change of the code changes results by more than rounding, so that
# nothing old is mixed in.
RESULTS_VERSION = 3


@dataclass
class Record:
    """One member: one seed and learning rate of one point. Shares are in 0..1, times in seconds."""

    job: str
    status: str  # ok | diverged | failed | missing
    task: str
    case: str
    source: str
    model: str
    n_classes: int
    source_classes: int
    image_size: int  # pixels
    pretrained: bool
    freeze_depth: int  # blocks
    n_blocks: int
    unit: str
    batchnorm: str
    optimizer: str
    epochs: int
    batch_size: int
    precision: str  # of what was trained
    prefix_precision: str  # of the frozen blocks
    augment: str
    seed: int
    block: str | None = None  # tasks of one block share their images
    which: str = "prefix"  # which blocks freeze_depth freezes: prefix | suffix | only | all_but
    above: str = "pretrained"  # what blocks that are not frozen start from
    frozen_epochs: int | None = None  # after which everything was trained; None = never
    lr: float | None = None
    selected: bool | None = None  # whether this lr had the best validation accuracy of its seed
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    val_accuracy: float | None = None  # after the last epoch
    test_accuracy: float | None = None  # read once, for the selected lr only
    test_balanced_accuracy: float | None = None  # mean over classes
    test_loss: float | None = None  # nats
    loss: float | None = None  # training, last epoch, nats
    trainable_params: int | None = None
    frozen_params: int | None = None
    prefix: str | None = None  # none | cached | recomputed | augmented | tracked
    prefix_seconds: float | None = None  # in the frozen blocks; 0 where another member of the job paid
    together: int | None = None  # members that were trained at once; each has an equal share of the time
    train_seconds: float | None = None
    seconds_per_epoch: float | None = None
    peak_memory_bytes: int | None = None  # of the process on a CPU, of the device's allocator on CUDA
    device: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    source_image_size: int | None = None  # pixels at which the pretrained weights were trained
    normalization: str | None = None  # of pixels in 0..1, before the first block
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


def job_folder(root: Path, job: str) -> Path:
    return root / "jobs" / job


def write_members(folder: Path, seed: int, members: list[Record]) -> None:
    """Write one seed's members; whoever reads sees all of them or none."""
    rows = [dataclasses.asdict(member) for member in members]
    write_json(folder / f"seed-{seed}.json", {"results_version": RESULTS_VERSION, "members": rows})


def read_members(folder: Path, seed: int) -> list[Record] | None:
    """Return one seed's members, or None if there is no whole file of them."""
    content = read_json(folder / f"seed-{seed}.json")
    if content is None or content.get("results_version") != RESULTS_VERSION:
        return None
    try:
        return [Record(**row) for row in content["members"]]
    except (KeyError, TypeError):
        return None


def finished(folder: Path, seed: int) -> bool:
    """Return whether this seed has its result; a failed or diverged one has not, and is tried again."""
    members = read_members(folder, seed)
    return bool(members) and any(member.selected and member.status == "ok" for member in members or [])


def write_failure(folder: Path, error: str, details: str) -> None:
    write_json(folder / "failure.json", {"error": error, "traceback": details})


def read_failure(folder: Path) -> str | None:
    """Return the one line that says why the job stopped, or None."""
    content = read_json(folder / "failure.json")
    return None if content is None else str(content.get("error"))


def clear_failure(folder: Path) -> None:
    (folder / "failure.json").unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content, or None if the file is not there or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file in the same folder, then rename: a reader or a kill never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for: a NaN or infinite loss becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
