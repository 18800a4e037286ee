"""Kill a sweep at random moments, from its first image to its report, and let the same command go on from there.

    python tests/kills.py 100       # so many kills; about four seconds each on an idle core

Every sweep runs in a process that is forked off one that has all imports behind it, so that the moments fall into the
sweep's own work: reading images, pretraining, encoding, training, writing records, checkpoints and the report. After
each kill the command runs again to its end: its table must be that of a sweep that nobody killed, and what was
recorded before the kill must still be the same bytes.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

GRID = [
    *("-m", "data=image_folder", "data.root=photos", "data.image_size=32", "data.test_fraction=0.3"),
    *("source=pretrain", "data@source.data=textures", "source.data.per_class=4", "source.epochs=2"),
    *("epochs=2", "batch_size=10", "seeds=2", "optimizer.lr=0.001", "freeze_depth=4,5", "checkpoint.minutes=0"),
]


def photos(root: Path) -> None:
    """Write two classes of twelve images."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 120, size=(32, 32, 3), dtype=np.uint8) + np.uint8(120 * label)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")


def start(folder: Path) -> int:
    """Fork a process that runs the sweep in this folder, with a cache there, and return its number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.chdir(folder)
        os.environ["SWEEP_CACHE"] = str(folder / "cache")
        sys.argv = ["sweep", *GRID]
        with Path("said.txt").open("w", encoding="utf-8") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        from sweep.cli.main import main  # noqa: PLC0415

        with contextlib.suppress(SystemExit):
            main()
        code = 0
    finally:
        os._exit(code)


def stage(folder: Path) -> str:
    """Return what the sweep in this folder has come to."""
    root = folder / "outputs" / "sweep"
    if (root / "verdict.json").exists():
        return "reporting"
    if records := len([*root.glob("jobs/*/seed-*.json")]):
        return "reporting" if records == 4 else f"training, {records} of 4 records"
    if [*root.glob("jobs/*")]:
        return "encoding or training"
    if [*folder.glob("cache/sources/*")]:
        return "pretraining"
    return "reading images" if (folder / "cache").exists() else "composing and importing"


def records(folder: Path) -> dict[str, str]:
    """Return the checksum of every record that is there."""
    found = sorted((folder / "outputs").glob("*/jobs/*/seed-*.json"))
    return {path.parent.name + path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def table(folder: Path) -> str:
    """Return the table without what differs between equal runs."""
    import pandas as pd  # noqa: PLC0415

    times = ["prefix_seconds", "train_seconds", "seconds_per_epoch", "peak_memory_bytes"]
    return str(pd.read_csv(folder / "outputs" / "sweep" / "table.csv").drop(columns=times).to_csv())


def whole(folder: Path) -> float:
    """Run the sweep to its end and return the seconds; raise RuntimeError with what it said if it failed."""
    begun = time.monotonic()
    _, status = os.waitpid(start(folder), 0)
    said = (folder / "said.txt").read_text(encoding="utf-8")
    if status or "error" in said or "Traceback" in said:
        raise RuntimeError(f"status {status}: {said}")
    return time.monotonic() - begun


def campaign(kills: int, seed: int, work: Path) -> dict[str, object]:
    """Kill so many sweeps; return how many tables were those of the first one, which was not killed."""
    rng = random.Random(seed)
    photos(work / "photos")

    def fresh(name: str) -> Path:
        (work / name).mkdir()
        (work / name / "photos").symlink_to(work / "photos")
        return work / name

    seconds = whole(fresh("whole"))
    expected = table(work / "whole")
    stages: Counter[str] = Counter()
    same = kept = done = tried = 0
    while done < kills:
        tried += 1
        folder = fresh(f"kill-{tried}")
        child = start(folder)
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):  # else it was over before
            done += 1
            stages[stage(folder)] += 1
            before = records(folder)
            seconds = (seconds + max(whole(folder), seconds / 2)) / 2  # the machine may have become slower or faster
            same += table(folder) == expected
            kept += before.items() <= records(folder).items()
            print(f"{done} of {kills} killed: {same} tables equal, {kept} with all records kept", flush=True)
        shutil.rmtree(folder)
    return {"kills": done, "equal": same, "kept": kept, "moments": dict(stages.most_common())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # threads do not outlive a fork
    import sweep.cli.main  # noqa: PLC0415
    import sweep.report.render  # noqa: PLC0415
    import sweep.runs.job  # noqa: F401, PLC0415

    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(campaign(given.kills, given.seed, Path(work))))


if __name__ == "__main__":
    main()
