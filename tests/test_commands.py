"""What commands share: help of one shape, settings explained and shown, Tab, a reader that leaves, threads."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Done

from hydra_plugins.freeze_sweep.local import LocalLauncher
from sweep.cli import advise, cache, completion, compose, doctor, explain, inspect
from sweep.cli.flags import command_line, sweep_command
from sweep.config import Config, identity
from sweep.errors import UserError
from sweep.models import __main__ as models
from sweep.paths import CONF
from sweep.report import __main__ as report
from sweep.runs import machine

Sweep = Callable[..., Done]
COMMANDS = {
    "sweep.advise": advise.main,
    "sweep.cache": cache.main,
    "sweep.doctor": doctor.main,
    "sweep.inspect": inspect.main,
    "sweep.models": models.main,
    "sweep.report": report.main,
}


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Done:
    monkeypatch.setattr("sys.argv", [name, *arguments])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name]()
    return Done(int(ended.value.code or 0), *capsys.readouterr())


def parts(shown: str) -> list[str]:
    """Return the first words of the paragraphs of help, but for those that only some commands have."""
    return [line.split(":")[0] for line in shown.splitlines() if line.startswith(("usage:", "examples:", "exit code:"))]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_one_shape(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(name, ["--help"], monkeypatch, capsys)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {name} [-h]")
    assert parts(done.stdout) == parts(sweep_command().format_help()) == ["usage", "examples", "exit code"]
    assert f"  python -m {name}" in done.stdout[done.stdout.index("examples:") :]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_there_is_not_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(name, ["--foo", *(["x"] if name == "sweep.report" else [])], monkeypatch, capsys)
    assert done == (2, "", f"error: --foo: no such option; see python -m {name} --help\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--foo"], "--foo: no such option; see python -m sweep --help"),
        (["--cfg", "nothing"], "argument -c/--cfg: invalid choice: 'nothing'"),
        (["-m", "--cfg", "job", "--package", "modle", "freeze_depth=0,2"], "--package modle: no such part"),
        (["--help", "freez_depth"], "freez_depth: no such setting or group; did you mean freeze_depth"),
        (["--help", "modle"], "modle: no such setting or group; did you mean model"),
    ],
)
def test_wrong_flags_are_one_line(sweep: Sweep, arguments: list[str], said: str) -> None:
    done = sweep(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: {said}")


# --- what a setting means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(explain.meanings()))
def test_every_setting_says_what_it_means_what_it_takes_and_its_default(name: str) -> None:
    title, *lines = explain.setting(name).splitlines()
    values = next(number for number, line in enumerate(lines) if line.startswith("  values: "))
    assert title == name
    assert len("".join(lines[:values])) > 5, "its comment in config.py"
    assert any(line.startswith("  default: ") for line in lines[values:])


@pytest.mark.parametrize("group", sorted(path.name for path in CONF.iterdir() if path.is_dir()))
def test_every_option_of_a_group_is_there(group: str) -> None:
    shown = explain.setting(group)
    assert shown.startswith(f"{group}=OPTION; choose\n")
    for path in (CONF / group).glob("*.yaml"):
        assert f"\n  {path.stem} " in shown, "with the first line of the YAML"


def test_settings_are_explained(sweep: Sweep) -> None:
    done = sweep("data=digits", "--help", "freeze_depth", "freeze.which")
    assert (done.returncode, done.stderr) == (0, "")
    depth, which = done.stdout.split("\n\n")
    assert depth.startswith("freeze_depth\n  blocks from the image on")
    assert "  values: 0 or more, to the model's number of blocks\n  default: 0" in depth
    assert "  values: prefix, suffix, only, all_but\n  default: prefix\n" in which
    assert "resnet101" in explain.setting("model"), "which has no YAML"
    assert "n_jobs: at once" in explain.setting("hydra.launcher.n_jobs")
    assert "source.optimizer\n  see --help source.optimizer" in explain.setting("source")
    with pytest.raises(UserError, match=r"did you mean data\.limit_train"):
        explain.setting("data.limittrain")


# --- composed settings ------------------------------------------------------------------------------------------


def test_the_settings_of_every_point_are_shown(sweep: Sweep, tmp_path: Path) -> None:
    grid = ["-m", "data=digits", "freeze_depth=4..5", "pretrained=true,false"]
    done = sweep(*grid, "--cfg", "job")
    assert (done.returncode, done.stderr) == (0, "")
    points = list(yaml.safe_load_all(done.stdout))
    shown = [(point["freeze_depth"], point["pretrained"], point["data"]["name"]) for point in points]
    assert shown == [(4, True, "digits"), (4, False, "digits"), (5, True, "digits"), (5, False, "digits")]
    assert "hydra" not in points[0]
    assert "# data=digits freeze_depth=5 pretrained=False\n" in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing is trained"


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--cfg", "job", "--package", "freeze"], "unit: stage\n"),
        (["--cfg", "job", "--package", "data.root"], "/elsewhere/cifar10\n"),
        (["--cfg=job", "-p", "data", "--resolve"], "root: /elsewhere/cifar10\n"),
        (["--cfg", "hydra", "--package", "hydra.sweeper"], "show: null\n"),
        (["--cfg", "all", "--package", "_global_"], "freeze_depth: 5\n"),
    ],
)
def test_parts_of_the_settings_are_shown(
    sweep: Sweep, flags: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA", "/elsewhere")
    done = sweep(*flags, "-m", "freeze_depth=4,5", "data=real/cifar_six")
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert "Traceback" not in done.stderr


def test_info_is_of_the_first_point_and_may_stand_before_a_setting() -> None:
    line = ["--info", "freeze_depth=3..5", "-m", "model=resnet18,resnet34", "seeds=2"]
    assert command_line(line) == ["--info", "all", "freeze_depth=3", "model=resnet18", "seeds=2"]
    assert command_line(["-i", "defaults", "-m", "freeze_depth=all"]) == ["--info", "defaults", "freeze_depth=0"]


# --- the Tab key ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> Iterator[completion.Completion]:
    with compose.own_loader() as loader:
        yield completion.Completion(loader)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("freeze-sweep mod", {"model=", "model."}),
        ("freeze-sweep model=resnet15", {"model=resnet152"}),
        ("freeze-sweep -m model=vgg11,resnet15", {"model=vgg11,resnet152"}),
        ("freeze-sweep -m freeze_depth=all seeds=0,1 export=", {"export=none", "export=best"}),
        ("freeze-sweep pretrained=f", {"pretrained=false"}),
        ("freeze-sweep -m freeze_depth=0,2 data.dup", {"data.duplicates="}),
        ("freeze-sweep data=suite/gr", {"data=suite/greek_11"}),
        ("freeze-sweep experiment=tu", {"experiment=tuned"}),
        ("freeze-sweep -m hydra/launcher=local hydra.launcher.n_", {"hydra.launcher.n_jobs="}),
        ("freeze-sweep data=image_folder data.root=my/ph", {"data.root=my/photos/"}),
        ("freeze-sweep --conf", {"--config-dir"}),
        ("freeze-sweep model=nothing_like_it", set()),
    ],
)
def test_tab_offers(line: str, offers: set[str], own: completion.Completion, in_folder: None) -> None:
    assert set(own.offers(line)) == offers


SHELLS = {
    "bash": """
eval "$(freeze-sweep -sc install=bash)"
COMP_LINE="freeze-sweep model=resnet15"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=($COMP_LINE); COMP_CWORD=1
hydra_bash_completion
echo "${COMPREPLY[@]}"
complete -p freeze-sweep >&2
""",
    "fish": 'freeze-sweep -sc install=fish | source; complete -C "freeze-sweep model=resnet15"',
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes_the_console_script(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = shutil.which("freeze-sweep", path=str(Path(sys.executable).parent))
    if shutil.which(shell) is None or script is None:
        pytest.skip(f"{shell} or the console script is not here")
    monkeypatch.setenv("PATH", str(Path(script).parent), prepend=":")
    done = subprocess.run(
        [shell, "-c", SHELLS[shell]], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["model=resnet152"], done.stderr


# --- a reader that leaves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "print('one'); print('x' * 10**6)",
        "print('one', flush=True); import time; time.sleep(0.5); print('two')",
        "print('one', flush=True); import time; time.sleep(0.5); print('two'); raise SystemExit(1)",
    ],
)
def test_it_ends_in_silence_when_nobody_reads_on(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"from sweep import interrupt\nwith interrupt.command():\n    {program}\n")
    line = f"{sys.executable} program.py | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (141, "one\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sweep --help", "sweep.models", "sweep.report --help"])
def test_every_command_ends_so(command: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m {command} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 141), "0 if all was written before the reader left"
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


# --- threads ----------------------------------------------------------------------------------------------------


def test_threads_are_those_asked_for_but_never_more_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FROM_START", 6)
    monkeypatch.setattr(machine, "usable", lambda: 4)
    found = []
    for threads in (None, 1, 3, 9):
        machine.device("cpu", threads)
        found.append(torch.get_num_threads())
    assert found == [4, 1, 3, 4]
    monkeypatch.setattr(machine, "FROM_START", 2)  # as OMP_NUM_THREADS=2 in a worker of a launcher
    machine.device("cpu", 3)
    assert torch.get_num_threads() == 2


def test_workers_share_the_cores_and_have_no_more_threads_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydra_plugins.freeze_sweep.local.usable", lambda: 8)

    def threads(n_jobs: int | None, own: int | None, most: int | None) -> list[int]:
        return [int(each["OMP_NUM_THREADS"]) for each in LocalLauncher(n_jobs, 1, own).environments(9, [], most)]

    assert threads(2, None, None) == [4, 4]
    assert threads(2, None, 3) == [3, 3]
    assert threads(4, None, 3) == [2] * 4, "never more than the cores"
    assert threads(2, 1, 3) == [1, 1], "the launcher's own setting counts"


def test_threads_are_no_part_of_what_a_point_is(sweep: Sweep) -> None:
    config = Config()
    config.threads = 7
    assert identity(config) == identity(Config())
    assert sweep("threads=0").stderr == "error: threads=0: use 1 or more\n"
