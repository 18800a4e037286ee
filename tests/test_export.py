"""The exported model is the one that was trained: same weights, same answers, in another process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

import sweep
from sweep import export
from sweep.cli.progress import shares
from sweep.config import Config
from sweep.data import task as data
from sweep.errors import UserError
from sweep.plan.point import plan
from sweep.report import record
from sweep.runs.job import run_point
from sweep.runs.session import Session
from sweep.train.examples import place
from sweep.train.loop import evaluate

pytestmark = pytest.mark.slow

Tiny = Callable[..., Config]


@pytest.mark.parametrize("changes", [{"freeze_depth": 5}, {"freeze_depth": 3}, {"freeze_depth": 2, "freeze_epochs": 1}])
def test_round_trip_gives_the_accuracy_of_the_record(
    tiny: Tiny, tmp_path: Path, changes: dict[str, int], session: Session
) -> None:
    point = plan(tiny(epochs=2, seeds=2, optimizer_lr=[0.0005, 0.002], **changes))
    assert run_point(point, tmp_path, session).error is None
    ((_, member),) = export.best([point], tmp_path)
    model = sweep.load(export.write(point, member, tmp_path, session))
    assert not model.training
    task = data.load(point.config.data, 32)
    test = task.test
    scores = evaluate(model, place(torch.from_numpy(test.pool), test.rows, test.labels, torch.device("cpu")))
    assert scores.accuracy == pytest.approx(member.test_accuracy, abs=0.005)
    assert scores.loss == pytest.approx(member.test_loss, rel=1e-3)
    assert model.classes == task.classes
    assert model.facts["freeze_depth"] == point.config.freeze_depth
    plain = torchvision.models.resnet18(num_classes=len(task.classes))
    plain.load_state_dict(load_file(tmp_path / "textures" / "model.safetensors"))


def test_without_validation_images_the_only_point_is_exported(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    point = plan(tiny(freeze_depth=5, data_val_fraction=0.0, data_label=".."))
    assert run_point(point, tmp_path / "sweep", session).error is None
    ((chosen, member),) = export.best([point], tmp_path / "sweep")
    assert (chosen, member.val_accuracy) == (point, None)
    assert shares(member) == f"test {100 * (member.test_accuracy or 0):.1f} %"
    folder = export.write(point, member, tmp_path / "sweep" / "export", session)
    assert folder.resolve().parent == (tmp_path / "sweep" / "export").resolve()


WITHOUT_THIS_PACKAGE = """
import json, sys
sys.modules["sweep"] = None  # any import of it fails
import torch, torchvision
from safetensors.torch import load_file
facts = json.load(open("model.json"))
model = torchvision.models.get_model(facts["model"], weights=None, **facts["arguments"]).eval()
model.load_state_dict(load_file("model.safetensors"), strict=True)
images = torch.load("images.pt")
mean, std = (torch.tensor(facts[key]).view(-1, 1, 1) for key in ("mean", "std"))
with torch.no_grad():
    torch.save(model((images / 255 - mean) / std), "logits.pt")
"""


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")  # torch would rather have torch.export
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 32),
        pytest.param("mobilenet_v2", 32, marks=pytest.mark.campaign),
        pytest.param("squeezenet1_1", 32, marks=pytest.mark.campaign),
        pytest.param("vit_b_32", 32, marks=pytest.mark.campaign),
        pytest.param("inception_v3", 75, marks=pytest.mark.campaign),
    ],
)
def test_exported_model_is_torchvisions_without_this_package(
    tiny: Tiny, tmp_path: Path, name: str, size: int, session: Session
) -> None:
    point = plan(tiny(pretrained=False, freeze_depth=3, model_name=name, data_image_size=size))
    assert run_point(point, tmp_path, session).error is None
    ((_, member),) = export.best([point], tmp_path)
    folder = export.write(point, member, tmp_path, session)
    classifier = sweep.load(folder)
    assert all(
        type(module).__module__.split(".")[0] in ("torch", "torchvision") for module in classifier.model.modules()
    )
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    torch.save(images, folder / "images.pt")
    subprocess.run([sys.executable, "-c", WITHOUT_THIS_PACKAGE], cwd=folder, check=True, timeout=300)
    with torch.no_grad():
        expected = classifier(images)
    torch.testing.assert_close(torch.load(folder / "logits.pt"), expected)
    if name in ("resnet18", "mobilenet_v2", "squeezenet1_1"):
        scripted = torch.jit.script(classifier.model)
        torch.testing.assert_close(scripted(classifier.normalize(images)), expected)


def test_best_point_is_chosen_on_validation_and_the_deeper_of_equals(
    tiny: Tiny, tmp_path: Path, session: Session
) -> None:
    points = [plan(tiny(freeze_depth=depth)) for depth in (0, 2, 5)]
    accuracies = {0: (0.5, 0.9), 2: (0.6, 0.1), 5: (0.6, 0.2)}  # validation, test
    for point in points[:2]:
        assert run_point(point, tmp_path, session).error is None
    for point in points:
        folder = record.job_folder(tmp_path, point.job)
        member = record.read_members(record.job_folder(tmp_path, points[0].job), 0)
        assert member is not None
        member[0].job = point.job
        member[0].val_accuracy, member[0].test_accuracy = accuracies[point.config.freeze_depth]
        record.write_members(folder, 0, member)
    ((chosen, winner),) = export.best(points, tmp_path)
    assert (chosen.config.freeze_depth, winner.test_accuracy) == (5, 0.2)
    record.job_folder(tmp_path, points[2].job).joinpath("seed-0.json").unlink()
    ((chosen, _),) = export.best(points, tmp_path)
    assert chosen.config.freeze_depth == 2, "a point without its results is passed over"


def test_command_line_exports_and_an_image_file_is_classified(standin_source: None, tmp_path: Path) -> None:
    command = ["data=textures", "data.per_class=4", "epochs=1", "seeds=1", "optimizer.lr=0.001", "freeze_depth=4,5"]
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "-m", *command, "export=best"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "outputs/sweep/export/textures: resnet18, pretrained, " in done.stdout
    other = subprocess.run(
        [sys.executable, "-m", "sweep", "-m", *command[:2], "epochs=2", *command[3:-1], "freeze_depth=5"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "outputs/sweep/export/textures: of an earlier run, not of these points" in other.stdout, other.stderr
    model = sweep.load(tmp_path / "outputs/sweep/export/textures")
    with torch.no_grad():
        logits = model(model.prepare(Image.new("L", (70, 40))))
    assert logits.shape == (1, 10)


def test_files_that_do_not_belong_together_are_refused(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    with pytest.raises(UserError, match=r"holds no model[.]json of format 1"):
        sweep.load(tmp_path)
    point = plan(tiny(freeze_depth=5))
    assert run_point(point, tmp_path, session).error is None
    ((_, member),) = export.best([point], tmp_path)
    folder = export.write(point, member, tmp_path, session)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"is not the file that model[.]json describes"):
        sweep.load(folder)
    weights.write_bytes(content[:100])
    with pytest.raises(UserError, match="cannot be read"):
        sweep.load(folder)


def test_training_that_does_not_repeat_is_not_exported(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    point = plan(tiny(freeze_depth=5))
    assert run_point(point, tmp_path, session).error is None
    ((_, member),) = export.best([point], tmp_path)
    member.val_accuracy = (member.val_accuracy or 0) + 0.5
    with pytest.raises(UserError, match=r"again gave a validation accuracy of .*use force=true"):
        export.write(point, member, tmp_path, session)
    assert not (tmp_path / "textures").exists()
