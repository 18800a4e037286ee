import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sweep.config import BatchNorm, Library, ModelConfig, SourceConfig, Unit
from sweep.errors import UserError
from sweep.models import __main__ as command
from sweep.models import build as models
from sweep.models.cuts import timm as timm_models
from sweep.models.frozen import Network, Normalize, channels_last
from sweep.plan import catalog
from sweep.plan import sources as source
from sweep.runs.session import Session

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SHARED = Path(os.environ.get("SWEEP_SHARED", "")) / "data"
PLAIN = Normalize([0.0] * 3, [1 / 255] * 3)  # uint8 to float, values unchanged

# Stages and parts, counted by hand in timm's source.
COUNTS = {
    "tf_efficientnet_lite0": (8, 17),  # the stem, seven stages of 1, 2, 2, 3, 3, 4, 1 blocks
    "resnet18": (5, 9),
    "mobilenetv3_small_050": (7, 13),
    "vit_tiny_patch16_224": (13, 13),  # timm's stages of a transformer are its layers
    "convnext_atto": (5, 13),
    "regnety_002": (5, 14),
    "densenet121": (5, 5),  # the layers of a dense block pass several tensors on, so they are one block
}


@pytest.fixture(scope="module", params=COUNTS)
def built(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    name = f"timm/{request.param}"
    return name, models.build(name, models.random_state(name, 32, seed=0), 10, 32, head_seed=0)


@pytest.mark.parametrize("unit", Unit)
def test_cut_model_is_timms_own_at_every_depth(built: tuple[str, nn.Module], unit: Unit) -> None:
    name, model = built
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parts, head = models.blocks(model, name, unit, 32)
    assert len(parts) == COUNTS[name.removeprefix("timm/")][unit is Unit.block]
    assert len(parts) == len(catalog.spec(name, 32).block_names(unit))
    with torch.no_grad():
        whole = model.eval()(channels_last(PLAIN(images)))
        for depth in range(len(parts) + 1):
            network = Network(PLAIN, parts, head, depth, BatchNorm.frozen).eval()
            features = network.encode(images)
            kept = features.clone()
            assert torch.equal(network.suffix(features), whole), depth
            assert torch.equal(features, kept), depth  # others share these features


def test_parts_are_the_models_own_layers(built: tuple[str, nn.Module]) -> None:
    name, model = built
    parts, head = models.blocks(model, name, Unit.block, 32)
    ours = {id(parameter) for part in (*parts, head) for parameter in part.parameters()}
    assert ours == {id(parameter) for parameter in model.parameters()}
    assert isinstance(head, nn.Linear)


def test_depths_of_lite0_leave_the_counted_parameters_to_train() -> None:
    name = "timm/tf_efficientnet_lite0"
    model = models.build(name, models.random_state(name, 32, seed=0), 10, 32, head_seed=0)
    parts, head = models.blocks(model, name, Unit.stage, 32)
    total = 4_652_008 - 1_281_000 + 12_810  # as timm publishes, less its head for 1,000 classes, plus ours
    assert sum(p.numel() for part in (*parts, head) for p in part.parameters()) == total
    assert sum(p.numel() for p in parts[0].parameters()) == 3 * 32 * 9 + 2 * 32
    assert sum(p.numel() for p in head.parameters()) == 12_810


def test_names_of_blocks_are_timms_paths() -> None:
    spec = catalog.spec("timm/tf_efficientnet_lite0", 32)
    assert spec.block_names(Unit.stage)[:4] == ["conv_stem", "blocks.0.0", "blocks.1", "blocks.2"]
    assert spec.block_names(Unit.block)[2:4] == ["blocks.1.0", "blocks.1.1"]
    assert catalog.spec("timm/densenet121", 32).block_names(Unit.stage)[1] == "features.denseblock1"


def test_training_a_part_trains_the_model_and_modes_reach_it() -> None:
    name = "timm/resnet18"
    model = models.build(name, models.random_state(name, 32, seed=0), 10, 32, head_seed=0)
    parts, head = models.blocks(model, name, Unit.stage, 32)
    network = Network(PLAIN, parts, head, 2, BatchNorm.frozen).train()
    network(torch.zeros(4, 3, 32, 32, dtype=torch.uint8)).sum().backward()
    assert model.get_parameter("conv1.weight").grad is None
    assert model.get_parameter("layer2.0.conv1.weight").grad is not None
    assert not model.get_submodule("layer1.0.bn1").training
    assert model.get_submodule("layer2.0.bn1").training


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet81", 32, "model.name=resnet81: timm has no such model; did you mean resnet18"),
        ("resnet18.a9_in1k", 32, "model.name=resnet18.a9_in1k: unknown; use one of resnet18.a1_in1k, "),
        ("qwen3_vit_88m_enc", 768, "qwen3_vit_88m_enc: has no layer that gives one number per class: no head"),
        ("inception_v3", 64, "data.image_size=64: timm/inception_v3 cannot take such images .* own size is 299"),
    ],
)
def test_wrong_timm_settings_get_one_line(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        catalog.check(ModelConfig(name, Library.timm), Unit.stage, 0, size)
    assert "\n" not in str(caught.value)


def test_model_that_torch_fx_cannot_follow_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pretrained_cfg = {"classifier": "fc"}
            self.conv1, self.fc = nn.Linear(3, 3), nn.Linear(3, 3)

        def group_matcher(self, coarse: bool) -> dict[str, str]:
            return {"stem": r"^conv1", "blocks": r"^fc"}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv1(x) if x.sum() > 0 else x)  # type: ignore[no-any-return]

    monkeypatch.setattr(timm_models, "construct", lambda *_: Branching())
    with pytest.raises(UserError, match=r"model.name=odd: timm's model cannot be cut \(.*control flow"):
        timm_models.find("timm/odd", 32)


def test_a_model_is_planned_from_disk_without_torch_or_timm(tmp_path: Path) -> None:
    code = (
        "import sys; from sweep.plan import catalog; print(catalog.spec('timm/resnet18', 32).stages); "
        "print('torch' in sys.modules, 'timm' in sys.modules)"
    )
    environment = {**os.environ, "SWEEP_CACHE": str(tmp_path)}
    printed = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert printed[0].splitlines()[1] == "True True"
    assert printed[1].splitlines() == [printed[0].splitlines()[0], "False False"]
    (kept,) = (tmp_path / "models").iterdir()
    assert json.loads(kept.read_text())["stages"]["layer4"] == 2


def test_timm_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    catalog.card.cache_clear()
    with pytest.raises(UserError, match=r"timm is not installed; pip install timm"):
        catalog.spec("timm/resnet18", 32)


def test_block_table_of_a_timm_model(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["timm/tf_efficientnet_lite0", "--image-size", "64"])
    printed = capsys.readouterr().out
    assert "blocks.6.0" in printed
    assert "1280" in printed


# --- weights --------------------------------------------------------------------------------------------------


def test_source_timm_knows_its_weights_without_reading_them() -> None:
    found = source.resolve(SourceConfig("timm"), "timm/tf_efficientnet_lite0")
    assert (found.task, found.n_classes, found.image_size) == ("imagenet", 1000, 224)
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)
    assert found.key == "timm/tf_efficientnet_lite0.in1k"
    with pytest.raises(UserError, match=r"source=timm: resnet18 is torchvision's; add model=timm model.name=resnet18"):
        source.resolve(SourceConfig("timm"), "resnet18")
    with pytest.raises(UserError, match="source=imagenet: torchvision has no weights for timm/resnet18"):
        source.resolve(SourceConfig("imagenet"), "timm/resnet18")
    with pytest.raises(UserError, match="no pretrained weights for timm/efficientnet_b8"):
        source.resolve(SourceConfig("timm"), "timm/efficientnet_b8")


def test_source_timm_takes_what_timm_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = timm.create_model("resnet18").state_dict()

    def download(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
        assert options.get("weights_only", True)
        return whole  # type: ignore[no-any-return]

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", download)
    loaded = Session().weights(source.resolve(SourceConfig("timm"), "timm/resnet18"), CPU).state
    assert loaded.keys() == {key for key in whole if not key.startswith("fc.")}
    assert all(torch.equal(loaded[key], whole[key]) for key in loaded)


def test_source_timm_offline_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", fail)
    message = r"source=timm: cannot download the weights of resnet18 \(no route to host\); .* use source=checkpoint"
    with pytest.raises(UserError, match=message) as caught:
        Session().weights(source.resolve(SourceConfig("timm"), "timm/resnet18"), CPU)
    assert "\n" not in str(caught.value)


def test_checkpoint_takes_normalisation_and_size_of_the_models_own_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), path)
    found = source.resolve(SourceConfig("checkpoint", path=str(path)), "timm/tf_efficientnet_lite0")
    assert (found.mean, found.std, found.image_size) == ((0.5,) * 3, (0.5,) * 3, 224)
    own = SourceConfig("checkpoint", path=str(path), mean=[0.1] * 3, std=[0.2] * 3, image_size=96)
    found = source.resolve(own, "timm/tf_efficientnet_lite0")
    assert (found.mean, found.std, found.image_size) == ([0.1] * 3, [0.2] * 3, 96)
    found = source.resolve(SourceConfig("checkpoint", path=str(path)), "resnet18")
    assert (found.mean[0], found.std[0], found.image_size) == (0.485, 0.229, 224)


@pytest.mark.skipif("SWEEP_SHARED" not in os.environ, reason="real weights lie in $SWEEP_SHARED/data")
@pytest.mark.parametrize("unit", Unit)
def test_cut_network_with_real_weights_gives_timms_own_logits(unit: Unit) -> None:
    path = SHARED / "tf_efficientnet_lite0-imagenet.safetensors"
    name = "timm/tf_efficientnet_lite0"
    theirs = timm.create_model("tf_efficientnet_lite0")
    theirs.load_state_dict(load_file(path))
    state = Session().weights(source.resolve(SourceConfig("checkpoint", path=str(path)), name), CPU).state
    model = models.build(name, state, 1000, 64, head_seed=0)
    parts, head = models.blocks(model, name, unit, 64)
    head.load_state_dict(theirs.classifier.state_dict())
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalize = Normalize([0.5] * 3, [0.5] * 3)
    network = Network(normalize, parts, head, 3, BatchNorm.frozen).eval()
    with torch.no_grad():
        assert torch.equal(network(images), theirs.eval()(channels_last(normalize(images))))
