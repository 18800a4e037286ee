"""The package as Python and notebooks use it: results are objects, errors are exceptions, and Hydra stays theirs."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase

import sweep
from sweep.report.render import Result
from sweep.train.loop import fit

pytestmark = pytest.mark.slow

SMALL = [
    *("data=textures", "data.per_class=4", "epochs=1", "seeds=1", "optimizer.lr=0.001", "pretrained=false"),
    *("data.label=a <b>c</b>", "freeze_depth=4,5"),
]
PRINTED = "  frozen  "  # of the table that the terminal shows


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standin_source: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def other_hydra(tmp_path: Path) -> Iterator[None]:
    """Another program's Hydra, initialized for good, as a notebook does it."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.yaml").write_text("theirs: 1\n")
    GlobalHydra.instance().clear()
    initialize_config_dir(str(tmp_path / "theirs"), version_base="1.2")
    yield
    GlobalHydra.instance().clear()


def test_import_is_cheap(tmp_path: Path) -> None:
    heavy = "torch", "pandas", "numpy", "hydra", "matplotlib"
    code = f"import sys, sweep; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


def test_a_dry_run_says_what_is_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = sweep.run([*SMALL, "dry_run=true"], multirun=True)
    assert len(result.missing) == 2
    assert len(sweep.run([*SMALL[:-1], "freeze_depth=5", "dry_run=true"]).missing) == 1
    assert not (here / "outputs").exists()


def test_a_sweep_is_an_object_and_the_other_hydra_is_as_it_was(
    here: Path, other_hydra: None, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = GlobalHydra.instance().hydra, str(getbase())
    result = sweep.run(SMALL, multirun=True)
    printed = capsys.readouterr().out
    assert printed.startswith("2 points, 2 to train")
    assert PRINTED not in printed
    assert (GlobalHydra.instance().hydra, str(getbase())) == theirs
    assert compose("config").theirs == 1

    assert result.folder == Path("outputs/sweep")
    assert result.report == Path("outputs/sweep/report.html")
    assert result.table["freeze_depth"].tolist() == result.summary["freeze_depth"].tolist() == [4, 5]
    assert result.verdict["decision"] == "untested"
    assert result.missing == []
    assert repr(result) == "<Result of 2 points, all with results: outputs/sweep>"
    assert PRINTED in str(result)
    pd.testing.assert_frame_equal(sweep.load_table("outputs/sweep"), result.table)

    html = result._repr_html_()
    assert "<td>a &lt;b&gt;c&lt;/b&gt;</td>" in html
    assert "<b>" not in html
    assert re.findall(r'src="(data:image/png;base64,\w{9})', html) == ["data:image/png;base64,iVBORw0KG"]

    again = sweep.run(SMALL, multirun=True)
    assert capsys.readouterr().out.startswith("2 points, all finished before")
    assert str(again) == str(result)


def test_one_point_also_in_another_thread(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = [*SMALL[:-1], "freeze_depth=5"]
    result = sweep.run(single)
    assert (result.missing, result.report) == ([], None)
    (row,) = result.table.to_dict("records")
    assert (row["task"], row["freeze_depth"], row["selected"]) == ("a <b>c</b>", 5, True)
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(sweep.run(single)))
    thread.start()
    thread.join()
    assert [str(each) for each in found] == [str(result)]
    assert "all finished before" in capsys.readouterr().out


def test_a_point_that_fails_is_missing_and_raises_nothing(here: Path) -> None:
    wild = [*SMALL, "optimizer.lr=1e30", "optimizer=sgd"]
    for result in (sweep.run(wild, multirun=True), sweep.run([*SMALL[:-1], *wild[-2:], "freeze_depth=4"])):
        (line,) = result.missing
        assert "seed 0: diverged" in line
        rows = result.table.set_index("freeze_depth")
        assert rows["test_accuracy"].isna()[4]
        assert "1 without result" in repr(result)
        assert "<strong>Missing</strong>" in result._repr_html_()


@pytest.mark.parametrize(
    ("settings", "multirun", "message"),
    [
        (["modle=resnet18"], False, "modle: no such setting; did you mean model?"),
        (["freeze_depth=9"], True, "freeze_depth=9: resnet18 has 5 blocks"),
        (["freeze_depth=0,2"], False, "freeze_depth=0,2: several values need multirun=True"),
        (["data=image_folder", "data.root=nowhere"], True, "data.root=nowhere: no such folder"),
        (["-m", "freeze_depth=0"], False, "-m: a flag of the command line"),
        (["hydra.mode=MULTIRUN", "freeze_depth=0"], False, "hydra.mode=MULTIRUN: a flag of the command line"),
        (["hydra/sweeper=basic"], True, "hydra/sweeper=basic: all points must be known at the start"),
        ("data=digits", False, "data=digits: one string; give a list of settings"),
        ([3], False, "3: settings are strings"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    here: Path, settings: list[str], multirun: bool, message: str
) -> None:
    with pytest.raises(sweep.UserError, match=f"^{re.escape(message)}") as caught:
        sweep.run(settings, multirun=multirun)
    assert "\n" not in str(caught.value)
    assert list(here.iterdir()) == []


def test_the_other_functions_take_settings_alone_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(sweep.UserError, match=r"^freeze_depth=3: advise chooses the depth"):
        sweep.advise(["freeze_depth=3"])
    with pytest.raises(sweep.UserError, match=r"^--help: a flag"):
        sweep.inspect(["--help"])
    with pytest.raises(sweep.UserError, match=r"^nowhere: neither sweep\.json nor table\.parquet there"):
        sweep.load_table("nowhere")
    assert sweep.inspect([*SMALL[:-1], "freeze_depth=0"]) == []
    assert "No warnings." in capsys.readouterr().out


def test_an_interrupt_is_one_and_what_is_finished_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real, calls = signal.getsignal(signal.SIGINT), fit, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr("sweep.runs.members.fit", interrupted)
    settings = [*SMALL[:-1], "freeze_depth=5,4"]  # the head alone first, which needs no fit()
    with pytest.raises(KeyboardInterrupt):
        sweep.run(settings, multirun=True)
    assert signal.getsignal(signal.SIGINT) is before
    table = sweep.load_table("outputs/sweep")
    assert table.dropna(subset="test_accuracy")["freeze_depth"].tolist() == [5]
    assert sweep.run(settings, multirun=True).missing == []
    assert len(calls) == 2
