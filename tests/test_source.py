import dataclasses
import os
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from sweep.cli import compose
from sweep.config import Config, DataConfig, ModelConfig, SourceConfig
from sweep.data.types import Task
from sweep.errors import UserError
from sweep.models import build as models
from sweep.plan import catalog
from sweep.plan import sources as source
from sweep.plan.point import plan
from sweep.runs import pretrain
from sweep.runs.session import Session

SHARED = Path(os.environ.get("SWEEP_SHARED", "")) / "data"


def load(config: SourceConfig, model: str = "resnet18") -> models.State:
    return Session().weights(source.resolve(config, model), torch.device("cpu")).state


def checkpoint(path: Path, **fields: object) -> SourceConfig:
    return SourceConfig("checkpoint", path=str(path), **fields)  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, models.State]:
    """Return a whole torchvision checkpoint, head included, and its tensors."""
    torch.manual_seed(7)
    state = torchvision.models.resnet18(num_classes=1000).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", state


def same_backbone(loaded: models.State, state: models.State) -> None:
    assert loaded.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


def test_checkpoint_in_every_form_gives_the_same_backbone(
    saved: tuple[Path, models.State], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = saved
    same_backbone(load(checkpoint(path)), state)
    assert "120 tensors loaded, 2 skipped (fc.bias, fc.weight), 0 missing" in capsys.readouterr().out
    for number, content in enumerate(
        (state, {"state_dict": state, "epoch": 3}, {f"module.{key}": value for key, value in state.items()})
    ):
        torch.save(content, tmp_path / f"{number}.pth")
        same_backbone(load(checkpoint(tmp_path / f"{number}.pth")), state)


def test_half_precision_files_are_read_as_floats(saved: tuple[Path, models.State], tmp_path: Path) -> None:
    _, state = saved
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    loaded = load(checkpoint(tmp_path / "half.safetensors"))
    assert loaded["conv1.weight"].dtype is torch.float32
    assert torch.equal(loaded["conv1.weight"], half["conv1.weight"].float())


def test_key_follows_the_content_not_the_place(saved: tuple[Path, models.State], tmp_path: Path) -> None:
    path, state = saved
    first = source.resolve(checkpoint(path), "resnet18").key
    path.rename(tmp_path / "moved.safetensors")
    assert source.resolve(checkpoint(tmp_path / "moved.safetensors"), "resnet18").key == first
    save_file({**state, "conv1.weight": state["conv1.weight"] + 1}, path)
    assert source.resolve(checkpoint(path), "resnet18").key != first


def test_other_architecture_is_refused(saved: tuple[Path, models.State]) -> None:
    with pytest.raises(UserError, match=r"has 0% of the tensors of mobilenet_v2 .* another architecture"):
        load(checkpoint(saved[0]), "mobilenet_v2")
    with pytest.raises(UserError, match=r"has 5\d% of the tensors of resnet34"):
        load(checkpoint(saved[0]), "resnet34")


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "was_run",)

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harmful()))
    torch.save({"state_dict": Harmful()}, tmp_path / "worse.pt")
    reasons = {"bad.pth": "pickle.dump wrote it", "worse.pt": r"it would run \S+ when opened"}
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=rf"not a file of plain tensors \({reason}") as caught:
            load(checkpoint(tmp_path / name))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_damaged_file_is_one_line(saved: tuple[Path, models.State], tmp_path: Path, name: str) -> None:
    path, state = saved
    whole = tmp_path / f"whole{Path(name).suffix}"
    if whole.suffix == ".pth":
        torch.save(state, whole)
    else:
        whole = path
    (tmp_path / name).write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a file of plain tensors"):
        load(checkpoint(tmp_path / name))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": None}, r"source.path is not set"),
        ({"path": "nowhere.pth"}, r"source.path=nowhere.pth: no such file"),
        ({"path": "weights.bin"}, r"source.path=weights.bin: no such file"),
        ({"path": "."}, r"source.path=.: a folder without model.safetensors"),
    ],
)
def test_wrong_paths_are_refused_before_anything_is_read(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        source.resolve(SourceConfig("checkpoint", **fields), "resnet18")  # type: ignore[arg-type]


def test_wrong_normalisation_is_refused(saved: tuple[Path, models.State]) -> None:
    for wrong in ({"std": [0.1, 0.2]}, {"std": [0.1, 0.0, 0.1]}, {"mean": [0.5]}):
        with pytest.raises(UserError, match="use three numbers"):
            source.resolve(checkpoint(saved[0], **wrong), "resnet18")


@pytest.mark.parametrize(
    "wrong",
    [{"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}, {"mean": [127.5] * 3}, {"std": [255] * 3},
     {"mean": [103.5, 116.3, 123.7], "std": [1, 1, 1]}, {"mean": [-1, 0.5, 0.5]}],
)  # fmt: skip
def test_normalisation_of_pixels_up_to_255_is_refused(
    saved: tuple[Path, models.State], wrong: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=rf"source.{next(iter(wrong))}=.*: use pixels in 0..1; .*divide by 255"):
        source.resolve(checkpoint(saved[0], **wrong), "resnet18")


@pytest.mark.parametrize("right", [{"mean": [0, 0, 0], "std": [1, 1, 1]}, {"mean": [0.5] * 3, "std": [0.5] * 3}])
def test_other_normalisation_is_taken(saved: tuple[Path, models.State], right: dict[str, list[float]]) -> None:
    found = source.resolve(checkpoint(saved[0], **right), "resnet18")
    assert (found.mean, found.std) == (right["mean"], right["std"])


@pytest.mark.parametrize("model", catalog.NAMES)
def test_imagenet_knows_its_normalisation_and_size(model: str) -> None:
    found = source.resolve(SourceConfig("imagenet"), model)
    theirs = torchvision.models.get_model_weights(model).DEFAULT
    assert (found.n_classes, found.image_size) == (1000, theirs.transforms().crop_size[0])
    converted = model in ("inception_v3", "googlenet")  # torchvision's models convert ImageNet's; ours take it as is
    assert list(found.mean) == pytest.approx([0.5] * 3 if converted else theirs.transforms().mean)
    assert found.key in theirs.url


def test_imagenet_download(monkeypatch: pytest.MonkeyPatch, saved: tuple[Path, models.State]) -> None:
    def fetch(url: str, **options: object) -> models.State:
        assert url.endswith("resnet18-f37072fd.pth")
        assert options["check_hash"]
        assert options["weights_only"]
        return load_file(saved[0])

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    same_backbone(load(SourceConfig("imagenet")), saved[1])


def test_imagenet_offline_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def fail(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", fail)
    message = (
        rf"no route to host.*; put resnet18-f37072fd.pth into {tmp_path}/hub/checkpoints, or use source=checkpoint"
    )
    with pytest.raises(UserError, match=message) as caught:
        load(SourceConfig("imagenet"))
    assert "\n" not in str(caught.value)


def test_unknown_weights_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"source.weights=IMAGENET1K_V9: unknown; use one of DEFAULT, IMAGENET1K_V1"):
        source.resolve(SourceConfig("imagenet", weights="IMAGENET1K_V9"), "resnet18")


def test_positions_of_a_transformer_need_the_sources_size() -> None:
    found = source.resolve(SourceConfig("imagenet"), "vit_b_16")
    source.check(found, ModelConfig("vit_b_16"), 224)
    with pytest.raises(UserError, match="one position per patch"):
        source.check(found, ModelConfig("vit_b_16"), 64)


@pytest.mark.skipif("SWEEP_SHARED" not in os.environ, reason="real weights lie in $SWEEP_SHARED/data")
def test_real_imagenet_weights_of_mobilenet_load_whole() -> None:
    path = SHARED / "mobilenet_v2-imagenet.safetensors"
    loaded = load(checkpoint(path), "mobilenet_v2")
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(load_file(path))
    same = {key: value for key, value in theirs.state_dict().items() if not key.startswith("classifier.1")}
    assert loaded.keys() == same.keys()
    assert all(torch.equal(loaded[key], same[key]) for key in same)


def small(**fields: object) -> SourceConfig:
    """Return a source that trains in a second, on few letters."""
    letters = DataConfig("glyphs_latin", classes=["A", "B", "C"], per_class=20)
    return SourceConfig("pretrain", data=letters, epochs=1, **fields)  # type: ignore[arg-type]


@pytest.mark.slow
def test_pretraining_happens_once_and_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    found = source.resolve(small(), "resnet18")
    assert (found.task, found.n_classes, found.image_size) == ("glyphs_latin-3classes", 3, 32)
    cpu = torch.device("cpu")
    first = Session().weights(found, cpu)
    assert first.accuracy is not None
    (kept,) = (tmp_path / "sources").glob("*.safetensors")
    luck = Session().weights(source.resolve(small(seed=1), "resnet18"), cpu)
    assert not any(
        torch.equal(first.state[key], luck.state[key]) for key in first.state if key.endswith("conv1.weight")
    )
    monkeypatch.setattr(pretrain, "fit", None)  # a second training would fail
    again = Session().weights(found, cpu)
    assert all(torch.equal(first.state[key], again.state[key]) for key in first.state)
    assert again.accuracy == first.accuracy
    monkeypatch.undo()
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    kept.write_bytes(kept.read_bytes()[:1000])
    mended = Session().weights(found, cpu)  # trained anew, to the same weights
    assert all(torch.equal(first.state[key], mended.state[key]) for key in first.state)


def test_pretraining_key_follows_data_and_recipe() -> None:
    other = small()
    other.data = DataConfig("glyphs_latin", classes=["A", "B", "D"], per_class=20)
    keys = [
        source.resolve(each, "resnet18").key
        for each in (small(), small(seed=0), small(batch_size=64), small(seed=1), other)
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert source.resolve(small(), "resnet34").key not in keys


def test_source_and_task_share_no_class_of_one_data_set() -> None:
    source.check_disjoint(small(), DataConfig("glyphs_latin", classes=["X", "Y"]))
    source.check_disjoint(small(), DataConfig("glyphs_digits"))
    with pytest.raises(UserError, match=r"shares the classes C with the task"):
        source.check_disjoint(small(), DataConfig("glyphs_latin", classes=["C", "Y"]))


def test_the_tasks_own_classes_and_splits_are_the_selffer_control() -> None:
    same = DataConfig("glyphs_latin", classes=["A", "B", "C"])
    own = SourceConfig(data=DataConfig("glyphs_latin", classes=["A", "B", "C"]))
    source.check_disjoint(own, same)
    for other in ({"seed": 1}, {"val_fraction": 0.3}):
        with pytest.raises(UserError, match="or the very same classes and splits"):
            source.check_disjoint(own, DataConfig("glyphs_latin", classes=["A", "B", "C"], **other))


def test_a_model_that_is_known_not_to_learn_the_letters_is_refused_before_it_is_trained() -> None:
    config = Config(model=ModelConfig("mobilenet_v2"))
    with pytest.raises(UserError, match=r"mobilenet_v2 does not learn it at 32 pixels .*use source=glyphs_latin_64"):
        plan(config)
    for changed in (
        dataclasses.replace(config, pretrained=False),  # random weights need no source
        dataclasses.replace(config, source=SourceConfig(epochs=20)),
        dataclasses.replace(config, source=SourceConfig(data=DataConfig("glyphs_latin", image_size=64))),
        dataclasses.replace(config, model=ModelConfig("resnet18")),
    ):
        plan(changed)


def test_larger_letters_are_a_source_for_every_model() -> None:
    for model in ("resnet18", "mobilenet_v2"):
        (point,) = compose.points([f"model={model}", "source=glyphs_latin_64", "data=glyphs_digits"], multirun=False)
        assert (point.facts.image_size, point.facts.source, point.source.config.epochs) == (64, "glyphs_latin", 6)


@pytest.mark.parametrize(
    ("n_classes", "accuracy", "learnt"),
    [
        (26, 0.08, False),
        (26, 0.04, False),
        (26, 0.2, False),
        (26, 0.3, True),
        (2, 0.51, False),
        (2, 0.7, True),
        (1000, 0.01, False),
    ],
)
def test_a_source_that_has_not_learnt_stops_the_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_classes: int, accuracy: float, learnt: bool
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))

    def read() -> Task:
        raise AssertionError("it is there already")

    found = dataclasses.replace(source.resolve(SourceConfig(), "resnet18"), n_classes=n_classes)
    file = pretrain.path(found)
    file.parent.mkdir(parents=True)
    save_file(models.random_state("resnet18", 32, seed=1), file, metadata={"val_accuracy": str(accuracy)})
    if learnt:
        assert pretrain.load(found, torch.device("cpu"), read).accuracy == accuracy
    else:
        with pytest.raises(
            UserError, match=rf"source=glyphs_latin: resnet18 has not learnt it .*{accuracy:.2f}, chance"
        ):
            pretrain.load(found, torch.device("cpu"), read)
