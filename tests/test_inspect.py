"""`python -m sweep.inspect`: what a sweep would start from, said before anything is trained."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Done
from PIL import Image
from safetensors.torch import save_file

from sweep.cli.inspect import main
from sweep.data import alike
from sweep.data.types import Split
from sweep.models import build, proof


def picture(number: int, side: int = 64) -> Image.Image:
    """Return a smooth picture, another one for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def split_of(pictures: list[Image.Image]) -> Split:
    pool = np.stack([np.asarray(each.resize((32, 32))).transpose(2, 0, 1) for each in pictures])
    return Split(pool, np.arange(len(pool)), np.zeros(len(pool), np.int64))


def recompressed(image: Image.Image) -> Image.Image:
    kept = io.BytesIO()
    image.resize((48, 48)).save(kept, "JPEG", quality=60)
    return Image.open(kept)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    def inspect(*arguments: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["sweep.inspect", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(str(stopped.code))
        return Done(code, *capsys.readouterr())

    return inspect


def test_the_same_picture_at_another_size_and_compression_looks_alike() -> None:
    ours, theirs = [picture(number) for number in range(30)], [picture(number) for number in range(100, 160)]
    theirs[7], theirs[40] = recompressed(ours[3]), recompressed(ours[20])
    one, other, whole = alike.pairs(alike.small(split_of(ours)), alike.small(split_of(theirs)))
    assert (one.tolist(), other.tolist(), whole) == ([3, 20], [7, 40], True)


def test_weights_of_any_initialisation_are_not_taken_for_trained() -> None:
    fresh = build.random_state("resnet18", 32, seed=0)
    assert proof.look(fresh) == (0, 20, 0, 20)
    uniform = {key: torch.rand_like(value) if value.dim() > 1 else value for key, value in fresh.items()}
    assert not proof.look(uniform).trained


def test_moved_statistics_and_uneven_rows_are_a_proof() -> None:
    state = build.random_state("resnet18", 32, seed=0)
    for key, value in state.items():
        if key.endswith("running_var"):
            value += 0.5
        elif value.dim() > 1:
            value *= torch.linspace(0.2, 2, len(value)).reshape(-1, *[1] * (value.dim() - 1))
    found = proof.look(state)
    assert (found.moved, found.norms, found.uneven, found.matrices) == (20, 20, 20, 20)
    assert found.line().startswith("pretrained: running statistics have moved in 20 of 20 BatchNorm layers")


def test_images_weights_and_blocks_are_said_and_shown(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for split, name, numbers in (("train", "cat", 12), ("train", "dog", 12), ("test", "cat", 6), ("test", "dog", 6)):
        (tmp_path / "pets" / split / name).mkdir(parents=True)
        for number in range(numbers):
            other = 1000 * (split == "test") + 100 * (name == "dog") + number
            picture(other).save(tmp_path / f"pets/{split}/{name}/{number}.png")
    recompressed(Image.open(tmp_path / "pets/test/cat/0.png")).save(tmp_path / "pets/train/cat/again.png")
    (tmp_path / "pets/train/dog/3.png").write_bytes(b"broken")
    save_file(build.random_state("resnet18", 32, seed=0), tmp_path / "fresh.safetensors")
    settings = ["data=image_folder", "data.root=pets", "data.image_size=32", "name=x", "source=checkpoint"]
    settings += ["source.path=fresh.safetensors", "freeze_depth=0,2", "-m"]
    refused = run(*settings)
    assert (refused.returncode, "unreadable image(s)" in refused.stderr) == (2, True)
    done = run(*settings, "data.broken=skip")
    assert done.returncode == 0, done.stderr
    for line in (
        "test: 12 images, the data's own split",
        "training: 19 images, the rest",
        "width 48 / 64 / 64, height 48 / 64 / 64",
        "PNG with 3 channels of 8 bits",
        "no equal images in two splits or two classes",
        "always saying the most frequent class is right in 50.0 % of the test images",
        "warning: 1 of 12 test images look like one outside the test (test/cat/0.png and train/cat/again.png)",
        "left out: pets/train/dog/3.png (cannot identify image file",
        "120 tensors loaded, 0 skipped, 0 missing",
        "warning: the weights look like those of a network that was never trained",
        "(nothing frozen)",
        "warnings, see above",
    ):
        assert line in done.stdout, line
    with Image.open(tmp_path / "outputs/x/inspect.png") as sheet:
        assert sheet.width > 500
        assert sheet.height > 200
    assert (tmp_path / "outputs/x/unreadable-pets.txt").read_text().startswith("pets/train/dog/3.png (")
    assert not list((tmp_path / "outputs").rglob("seed-*.json"))
    strict = run(*settings, "data.broken=skip", "strict=true")
    assert strict.returncode == 2
    assert strict.stderr.startswith("error: strict=true: pets: warning: 1 unreadable image left out")


@pytest.mark.parametrize(("argument", "said"), [("--foo", "no such option"), ("data=nope", "data=nope: unknown")])
def test_wrong_input_is_one_line(run, tmp_path: Path, argument: str, said: str) -> None:  # type: ignore[no-untyped-def]
    done = run(argument)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_signs_that_a_terminal_obeys_are_shown_not_sent(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("a\x1b[31mred", "b\nsecond"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for number in range(12 if name.startswith("a") else 70):
            Image.new("RGB", (32, 32), (number, 3, 70 * name.startswith("a"))).save(
                tmp_path / "x" / name / f"{number}.png"
            )
    (tmp_path / "x" / "a\x1b[31mred" / "bad\x1b[2J.png").write_bytes(b"none")
    done = run("data=image_folder", "data.root=x", "pretrained=false", "data.broken=skip")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert r"a\x1b[31mred" in done.stdout
    assert "\nsecond" not in done.stdout


def test_doubts_of_weights_count_as_those_of_images_do(  # type: ignore[no-untyped-def]
    run, sweep: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(build.random_state("resnet18", 32, seed=0), tmp_path / "w.safetensors")
    monkeypatch.setattr("sweep.models.fitting.check", lambda *_: ["warning: w: lacks a layer"])
    few = ["data=textures", "data.per_class=4", "source=checkpoint", "source.path=w.safetensors", "data.image_size=32"]
    done = run(*few)
    assert done.returncode == 0
    assert "2 warnings, see above" in done.stdout, "never trained, and lacks a layer"
    few += ["freeze_depth=5", "pretrained=true", "epochs=1", "seeds=1", "optimizer.lr=0.001", "source.image_size=32"]
    assert sweep(*few).returncode == 0
    refused = sweep(*few, "name=other", "strict=true")
    assert refused.returncode != 0
    assert "strict=true: warning: w: lacks a layer" in refused.stderr
    assert not list(tmp_path.glob("outputs/other/jobs/*/seed-*.json"))
