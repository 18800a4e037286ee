"""`python -m sweep.doctor`: what this machine has for a sweep, and what is wrong with it."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from tabulate import tabulate

from sweep import __version__, interrupt
from sweep.cli import cache
from sweep.commands import Command
from sweep.cores import usable
from sweep.paths import cache_folder

PROBLEM = "PROBLEM: "  # begins a line of what does not work and can be mended
REINSTALL = "pip install --force-reinstall torch torchvision"
DEVELOPMENT = ("browser", "docs", "test")  # extras that users need not
VARIABLES = (
    *("SWEEP_CACHE", "SWEEP_DATA", "HYDRA_FULL_ERROR", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
    *("TORCH_HOME", "HF_HOME", "HF_HUB_OFFLINE"),
)
NEEDS = {"slurm": ("submitit", "sbatch"), "ray": ("ray", None)}  # of our own launchers: a package and a program
# Of weights that are downloaded, by the source that asks for them: where their library keeps them, and from where.
WEIGHTS = {
    "imagenet": ("checkpoints of torch", "download.pytorch.org"),
    "timm": ("models of the Hugging Face hub", "huggingface.co"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0, 1 if something is wrong that can be mended, 130 after Ctrl-C."""
    command = Command(
        "sweep.doctor",
        "Show what this machine has for a sweep: versions, devices, cores, memory, the cache folder, data sets and\n"
        "weights that are here or would be downloaded, launchers, extras. Nothing is downloaded or changed.",
        {"": f"exit code 1 if a line says {PROBLEM.strip(': ')}"},
        "also:\n  python -m sweep.cache    list the cache, and clear it",
    )
    with interrupt.command():
        command.parse_args(arguments)
        found = list(report())
        for title, lines in found:
            print("\n".join([title, *(f"  {line}" for line in lines), ""]), flush=True)
        count = sum(line.startswith(PROBLEM) for _, lines in found for line in lines)
        print(f"{count} problem{'s' * (count > 1)}, see above." if count else "No problem found.")
        if count:
            sys.exit(1)


def report() -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of the report: a title and its lines."""
    yield "versions", versions()
    torch = _imported("torch")
    torchvision = _imported("torchvision") if isinstance(torch, ModuleType) else None
    yield "devices", [*devices(torch), *_broken("torch", torch), *_broken("torchvision", torchvision)]
    yield "cores and memory", machine(torch)
    yield "cache", kept()
    yield "data sets", data_sets(torchvision if isinstance(torchvision, ModuleType) else None)
    yield "weights", weights()
    yield "launchers", launchers()
    yield "extras", extras()
    yield "variables", [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ] or ["none of ours"]


def versions() -> list[str]:
    """Return the versions of all that results may depend on."""
    rows = [("freeze-sweep", f"{__version__} in {Path(__file__).parents[2]}")]
    rows.append(("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}"))
    for name in ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "pandas", "scikit-learn", "matplotlib"):
        rows.append((name, _version(name) or f"{PROBLEM}not installed; pip install {name}"))
    lines = tabulate(rows, tablefmt="plain", disable_numparse=True).splitlines()
    builds = {name: (_version(name) or "").partition("+")[2] for name in ("torch", "torchvision")}
    if builds["torch"].startswith("cpu") != builds["torchvision"].startswith("cpu"):
        unlike = f"torch {_version('torch')} and torchvision {_version('torchvision')}"
        mend = f"install both at once from one index: {REINSTALL}"
        lines.append(f"{PROBLEM}{unlike} are of different builds, one for CPUs alone; {mend}")
    return lines


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _imported(name: str) -> ModuleType | Exception:
    """Return the module, or why it cannot be imported: of a broken installation that may be any error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception as error:
        return error


def _broken(name: str, module: ModuleType | Exception | None) -> list[str]:
    if not isinstance(module, Exception):
        return []
    why = " ".join(str(module).split())[:200]
    return [f"{PROBLEM}{name} cannot be imported ({why}); {REINSTALL}"]


def devices(torch: Any) -> list[str]:
    """Return what can train, and why a GPU cannot. torch: the module, or the error that its import gave."""
    lines = [f"cpu: {_processor()}"]
    if isinstance(torch, Exception):
        return lines
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        return [*lines, *(_gpu(torch, index) for index in range(torch.cuda.device_count()))]
    driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    built = f"torch is built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs alone'}"
    if not driver:
        return [*lines, f"cuda: no NVIDIA driver here; {built}"]
    if not torch.version.cuda:
        return [*lines, f"{PROBLEM}cuda: there is an NVIDIA driver, but {built}; install a torch for CUDA"]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip("-1 "):
        return [*lines, f"cuda: hidden by CUDA_VISIBLE_DEVICES={hidden}"]
    why = "; ".join(" ".join(str(each.message).split())[:200] for each in told)
    why = why or f"is the driver too old for CUDA {torch.version.cuda}? nvidia-smi says up to which it goes"
    return [*lines, f"{PROBLEM}cuda: there is an NVIDIA driver, but torch sees no device ({why})"]


def _gpu(torch: Any, index: int) -> str:
    free, total = (cache.size(count) for count in torch.cuda.mem_get_info(index))
    name = torch.cuda.get_device_name(index)
    line = f"cuda:{index}: {name}, {free} of {total} free, CUDA {torch.version.cuda}"
    major, minor = torch.cuda.get_device_capability(index)
    made_for = torch.cuda.get_arch_list()  # sm_90, or compute_90, which later ones can run, too
    newest = max((int(found[1]) for each in made_for if (found := re.match(r"sm_(\d+)", each))), default=0)
    later = any(each.startswith("compute_") for each in made_for)
    if newest and not later and 10 * major + minor > newest + 9:  # it runs on later members of its generation alone
        return f"{PROBLEM}{line}; torch has no code for its compute capability {major}.{minor}; install a newer torch"
    return line


def _processor() -> str:
    with_name = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", with_name.read_text()) if with_name.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def machine(torch: Any) -> list[str]:
    """Return cores, threads, memory and disk."""
    threads = "" if isinstance(torch, Exception) else f"; torch uses {torch.get_num_threads()} threads"
    lines = [f"cores: {usable()} of {os.cpu_count()} may be used{threads}"]
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        page = os.sysconf("SC_PAGE_SIZE")
        free = _available() or page * os.sysconf("SC_AVPHYS_PAGES")
        lines.append(f"memory: {cache.size(free)} of {cache.size(page * os.sysconf('SC_PHYS_PAGES'))} free")
    for what, folder in (("cache", cache_folder()), ("results", Path.cwd())):
        there = next(each for each in (folder, *folder.resolve().parents) if each.exists())
        line = f"disk of the {what}: {cache.size(shutil.disk_usage(there).free)} free at {there}"
        lines.append(line if os.access(there, os.W_OK) else f"{PROBLEM}{line}, and no right to write there")
    return lines


def _available() -> int | None:
    """Return the bytes of memory that can be had, with what the system would give back, where it says so (Linux)."""
    file = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", file.read_text()) if file.exists() else None
    return 1024 * int(found[1]) if found else None


def kept() -> list[str]:
    """Return what fills the cache folder, by kind."""
    entries = cache.entries()
    whole = f"{cache_folder()}: {cache.size(sum(each.bytes for each in entries))}"
    return [whole, *cache.by_kind(entries), "python -m sweep.cache lists and clears it"]


def data_sets(torchvision: ModuleType | None) -> list[str]:
    """Return which of torchvision's data sets are in the cache folder, and from where the others would come."""
    from sweep.data.torchvision import DOWNLOADS  # noqa: PLC0415  with it come numpy and pillow, which may be broken

    folder, rows = cache_folder() / "data", []
    for name, download in DOWNLOADS.items():
        here = next(folder.glob(download.marks), None) is not None
        hosts = _hosts(getattr(torchvision.datasets, download.kind)) if torchvision else []
        rows.append((f"data={name}", "here" if here else f"downloaded at first use, from {' or '.join(hosts) or '?'}"))
    embedded = "glyphs_digits, glyphs_greek_cyrillic, glyphs_latin, textures, digits and others need no download"
    shown = tabulate(rows, tablefmt="plain", disable_numparse=True).splitlines()
    return [embedded, *shown, f"with data.root=FOLDER they are looked for there, else in {folder}"]


def _hosts(kind: Callable[..., object]) -> list[str]:
    """Return the hosts that a class of torchvision's downloads from, as its code says; its docstrings do not count."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    documents = {ast.get_docstring(each, clean=False) for each in ast.walk(body) if isinstance(each, ast.FunctionDef)}
    documents.add(ast.get_docstring(body, clean=False) if isinstance(body, ast.ClassDef) else None)
    texts = [each.value for each in ast.walk(body) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    urls = [text for text in texts if text.startswith("http") and text not in documents]
    return list(dict.fromkeys(urlsplit(url).netloc for url in urls))


def weights() -> list[str]:
    """Return which weights are here, and from where others would come."""
    trained = [path.name for path in (cache_folder() / "sources").glob("*.safetensors")]
    lines = [f"source=glyphs_latin, source=pretrain: trained here at first use; {len(trained)} are here"]
    lines += [f"  {name}" for name in sorted(trained)]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = {
        "imagenet": Path(os.environ.get("TORCH_HOME") or home / "torch") / "hub" / "checkpoints",
        "timm": Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub",
    }
    for source, folder in folders.items():
        what, host = WEIGHTS[source]
        names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []
        names = [name for name in names if source == "imagenet" or name.startswith("models--")]
        lines.append(f"source={source}: downloaded at first use, from {host}; {len(names)} {what} in {folder}")
        lines += [f"  {name}" for name in names]
    return lines


def launchers() -> list[str]:
    """Return which launchers there are, and what those lack that cannot run."""
    from sweep.cli import compose  # noqa: PLC0415  Hydra may be broken, and is not needed by what comes before
    from sweep.cli.translate import LAUNCHERS  # noqa: PLC0415

    with compose.own_loader() as loader:
        names = loader.get_group_options("hydra/launcher")
    lines = []
    for name in names:
        module, program = NEEDS.get(name, (None, None))
        lacking = [f"pip install 'freeze-sweep[{name}]'"] if module and not importlib.util.find_spec(module) else []
        lacking += [f"no {program} here"] if program and not shutil.which(program) else []
        lines.append(f"hydra/launcher={name}" + (f": {', '.join(lacking)}" if lacking else ""))
    absent = [f"{name} ({package})" for name, package in LAUNCHERS.items() if name not in names]
    return [*lines, f"not installed: {', '.join(absent)}"] if absent else lines


def extras() -> list[str]:
    """Return the extras of this package that users may want, and which of their packages are here."""
    try:
        required = importlib.metadata.requires("freeze-sweep") or []
    except importlib.metadata.PackageNotFoundError:
        return ["not known: this package runs from a folder without being installed"]
    rows = []
    for line in required:
        found = re.match(r"([\w.-]+).*;\s*extra == ['\"]([\w-]+)['\"]", line)
        if found and found[2] not in DEVELOPMENT:
            rows.append((found[2], found[1], _version(found[1]) or f"not here: pip install 'freeze-sweep[{found[2]}]'"))
    return tabulate(rows, tablefmt="plain", disable_numparse=True).splitlines()
