"""Write the tables of benchmarks/README.md from benchmarks/results/*.json.

python -m benchmarks.table
"""

import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.cases import CASES

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables: python -m benchmarks.table -->", "<!-- end of tables -->"


def main() -> None:
    """Replace what lies between the two marks."""
    fill(HERE / "README.md", BEGIN, END, tables())
    print(tables())


def fill(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what lies between two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def tables() -> str:
    """Return all tables for which there are results."""
    parts = ["### Against the plain loop", "", table([_case(name) for name in CASES if _read(name)])]
    if row := _read("main-command"):
        parts += ["", "### The main command from nothing", "", table([_main_command(row)])]
    if rows := _read("frameworks"):
        parts += ["", "### Against what users would pick instead", "", table([_framework(row) for row in rows])]
    if rows := _read("overhead"):
        parts += ["", "### Beside training", "", table([_overhead(row) for row in rows])]
    if rows := _read("growth"):
        parts += ["", "### Growth", "", table([_growth(row) for row in rows])]
    if rows := [row for device in ("cpu", "cuda") for row in _read(f"suffixes-{device}") or []]:
        parts += ["", "### Deeper suffixes of several members, one step", "", table([_suffix(row) for row in rows])]
    if found := _read("gpu"):
        title = f"### One {found['device']}, {found['images'][0]} images, batches of 512, s per epoch"
        parts += ["", title, "", table([_on_gpu(row) for row in found.get("epochs", [])])]
    return "\n".join(parts)


def table(rows: list[dict[str, str]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def _read(name: str) -> Any:
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _case(name: str) -> dict[str, str]:
    found = _read(name)
    ratio, spread = found["ratio"], found["spread"]
    if name == "members":  # the target is a time, not a speed
        ratio, spread = 1 / ratio, [1 / spread[1], 1 / spread[0]]
    peak, accuracy = (
        {side: max(run[key] for run in found["runs"][side]) for side in ("plain", "ours")}
        for key in ("peak_mb", "accuracy")
    )
    return {
        "case": found["case"] + ("" if found["epochs"] == 10 else f", {found['epochs']} epochs"),
        "plain s": f"{found['plain_seconds']:.2f}",
        "ours s": f"{found['ours_seconds']:.2f}",
        "floor s": f"{found['floor_seconds']:.2f}",
        "ratio (lowest, highest)": f"**{ratio:.1f}** ({spread[0]:.1f}, {spread[1]:.1f})",
        "target": found["target"] or "-",
        "accuracy plain, ours %": f"{100 * accuracy['plain']:.1f}, {100 * accuracy['ours']:.1f}",
        "peak MB": f"{peak['plain']:.0f}, {peak['ours']:.0f}",
    }


def _main_command(row: dict[str, Any]) -> dict[str, str]:
    parts = {"seconds": "all s", **{key: key for key in ("source", "training", "prefix", "evaluation and other")}}
    shown = {title: f"{row[key]:.1f}" for key, title in parts.items()}
    return shown | {"floor s": f"{row['floor']:.1f}", "target s": row["target"]}


def _framework(row: dict[str, Any]) -> dict[str, str]:
    return {
        "what": row["what"],
        "head only s": f"{row['head']['seconds']:.2f}",
        "ours is faster": f"{row['head']['ratio']:.1f} x",
        "depth 4 s": f"{row['depth4']['seconds']:.2f}",
        "ours is faster ": f"{row['depth4']['ratio']:.1f} x",
        "accuracy head, depth 4 %": f"{100 * row['head']['accuracy']:.1f}, {100 * row['depth4']['accuracy']:.1f}",
    }


def _overhead(row: dict[str, Any]) -> dict[str, str]:
    spread = row.get("spread")
    return {
        "what": row["what"],
        "median": f"{row['median']:.2f}",
        "lowest, highest": f"{spread[0]:.2f}, {spread[1]:.2f}" if spread else "-",
        "target": row["target"],
    }


def _growth(row: dict[str, Any]) -> dict[str, str]:
    pairs = zip(row["n"], row["seconds"], strict=True)
    return {
        "axis": row["axis"],
        "seconds": ", ".join(f"{n}: {seconds:.2f}" for n, seconds in pairs),
        "slope": f"{row['slope']:.2f}",
    }


def _suffix(row: dict[str, Any]) -> dict[str, str]:
    return {
        "device": row["device"],
        "depth": str(row["depth"]),
        "batch": str(row["batch"]),
        "members": str(row["members"]),
        "one after another ms": f"{1000 * row['sequential']:.0f}",
        "vmap ms": f"{1000 * row['together']:.0f}",
        "vmap is faster": f"{row['sequential'] / row['together']:.2f} x",
    }


def _on_gpu(row: dict[str, Any]) -> dict[str, str]:
    """Return a row of a GPU's table; the plain loop's epoch has its evaluation in it, ours has not."""
    return {
        "depth": str(row["depth"]),
        "plain, fp32, with evaluation": f"{row['plain_s_per_epoch']:.2f}",
        "ours, fp32": f"{row['ours_fp32_s_per_epoch']:.2f}",
        "TFLOP/s": f"{row['ours_fp32_tflops']:.1f}",
        "ours, bf16": f"{row['ours_bf16_s_per_epoch']:.2f}",
    }


if __name__ == "__main__":
    main()
