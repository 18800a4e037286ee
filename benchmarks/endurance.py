"""Whether a long sweep stays as it began: memory and seconds per point over many tiny points, in one process.

    python -m benchmarks.endurance [--points 2000]

Points differ in their learning rate alone, so that nothing but a leak could grow. Each is trained as a sweep trains it,
with its record written; the report is not made (python -m benchmarks.overhead times that over 10,000 records).
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.cases import RESULTS
from sweep.cli import compose
from sweep.runs.job import fetch, run_point
from sweep.runs.session import Session

POINT = ["data=textures", "data.per_class=4", "freeze_depth=5", "pretrained=false", "seeds=1", "epochs=1"]
WARM = 100  # points, after which everything that is kept is there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    count = parser.parse_args().points
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SWEEP_CACHE"] = f"{folder}/cache"
        rates = ",".join(f"{0.001 + number * 1e-6:g}" for number in range(count))
        points = compose.points([*POINT, f"optimizer.lr={rates}"], multirun=True)
        session = Session()
        fetch(points, session)
        seconds, memory = [], []
        for point in points:
            start = time.process_time()
            outcome = run_point(point, Path(folder), session)
            assert outcome.error is None, outcome.error
            seconds.append(time.process_time() - start)
            memory.append(resident_mb())
            if len(memory) % WARM == 0:
                mean = 1000 * statistics.fmean(seconds[-WARM:])
                print(f"{len(memory)} points: {memory[-1]:.0f} MB, {mean:.0f} ms of CPU each", flush=True)
    part = max(1, min(WARM, count // 4))
    found = {
        "points": count,
        "after": part,
        "mb": [memory[part - 1], memory[-1]],
        "grown_mb": max(memory[part:]) - memory[part - 1],
        "cpu_ms_first": 1000 * statistics.median(seconds[part : 2 * part]),
        "cpu_ms_last": 1000 * statistics.median(seconds[-part:]),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "endurance.json").write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{count} points: {found['mb'][0]:.0f} MB after {part}, {found['mb'][1]:.0f} MB at the end, "
        f"at most {found['grown_mb']:.0f} MB more; CPU per point {found['cpu_ms_first']:.0f} ms, then "
        f"{found['cpu_ms_last']:.0f} ms"
    )


def resident_mb() -> float:
    """Return the memory of this process that lies in RAM, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
