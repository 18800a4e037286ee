import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from sweep.config import BatchNorm, ModelConfig, OptimizerConfig, Unit
from sweep.errors import UserError
from sweep.models import __main__ as command
from sweep.models import build as models
from sweep.models.auxiliary import WithAuxiliary, auxiliary_loss
from sweep.models.cuts import torchvision as torchvision_models
from sweep.models.cuts.graph import assert_covered
from sweep.models.frozen import Network, Normalize, channels_last
from sweep.plan import catalog
from sweep.train.examples import Splits, place
from sweep.train.heads import is_head
from sweep.train.loop import Recipe, fit

# What freeze_depth=0, 1, ... leaves to train of each model with a head for 10 classes. The first number is the count
# that torchvision publishes, less its head for 1,000 classes, plus ours (and for ViT, 5 positions instead of 197).
TRAINABLE = {
    "resnet18": [11181642, 11172106, 11024138, 10498570, 8398858, 5130],
    "resnet34": [21289802, 21280266, 21058314, 19941898, 13119498, 5130],
    "resnet50": [23528522, 23518986, 23303178, 22083594, 14985226, 20490],
    "mobilenet_v2": [2236682, 2234858, 2220890, 2181194, 1694154, 12810],
    "efficientnet_b0": [4020358, 4017982, 4001268, 3954628, 3168550, 12810],
    "vgg11_bn": [128812810, 128810890, 128736778, 127850506, 124308490, 119586826, 40970],
    "densenet121": [6964106, 6954570, 6586250, 5534474, 2170378, 10250],
    "vit_b_16": [85658890, 85063690, 63800074, 42536458, 21272842, 7690],
    "convnext_tiny": [27827818, 27822922, 27585034, 26592778, 15479818, 7690],
    "swin_t": [27527044, 27522148, 27297454, 26331202, 15375802, 7690],
}
PLAIN = Normalize([0.0] * 3, [1 / 255] * 3)  # uint8 to float, values unchanged

# A small model of each family, beside the ten of the table; the others take seconds each.
SMALL = (
    *("alexnet", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v3_small"),
    *("regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_v2_t"),
)
EVERY = [
    name if name in TRAINABLE else pytest.param(name, marks=pytest.mark.slow if name in SMALL else pytest.mark.campaign)
    for name in catalog.NAMES
]

# Stages of one model of each family that is not in the table above, counted by hand in torchvision's source.
STAGES = {
    "alexnet": {"conv1": 1, "conv2": 1, "conv3": 1, "conv4": 1, "conv5": 1, "hidden": 2},
    "efficientnet_v2_s": {"stride2": 3, "stride4": 4, "stride8": 4, "stride16": 15, "stride32": 16},
    "googlenet": {"stem": 3, "inception3": 2, "inception4": 5, "inception5": 2},
    "inception_v3": {"stem": 5, "Mixed_5": 3, "Mixed_6": 5, "Mixed_7": 3},
    "maxvit_t": {"stem": 2, "block1": 2, "block2": 2, "block3": 5, "block4": 2, "hidden": 1},
    "mnasnet0_5": {"stride2": 3, "stride4": 3, "stride8": 3, "stride16": 5, "stride32": 6},
    "mobilenet_v3_small": {"stride2": 1, "stride4": 1, "stride8": 2, "stride16": 5, "stride32": 4, "hidden": 1},
    "regnet_y_400mf": {"stem": 1, "block1": 1, "block2": 3, "block3": 6, "block4": 6},
    "resnet101": {"stem": 1, "layer1": 3, "layer2": 4, "layer3": 23, "layer4": 3},
    "shufflenet_v2_x0_5": {"stem": 1, "stage2": 4, "stage3": 8, "stage4": 4, "conv5": 1},
    "squeezenet1_1": {"stem": 1, "stride4": 2, "stride8": 2, "stride16": 4},
    "swin_v2_b": {"embed": 1, "stage1": 2, "stage2": 3, "stage3": 19, "stage4": 3},
    "vgg16": {"conv1": 2, "conv2": 2, "conv3": 3, "conv4": 3, "conv5": 3, "hidden": 2},
    "vit_l_32": {"embed": 1, "layers0_5": 6, "layers6_11": 6, "layers12_17": 6, "layers18_23": 6},
}


@pytest.fixture(scope="module", params=TRAINABLE)
def built(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    name = request.param
    return name, models.build(name, models.random_state(name, 32, seed=0), 10, 32, head_seed=0)


def pixels(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


# --- what there is --------------------------------------------------------------------------------------------


def test_names_are_torchvisions_classification_models() -> None:
    assert list(catalog.NAMES) == sorted(catalog.NAMES)
    assert set(catalog.NAMES) == set(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_stages_are_the_counted_ones(name: str) -> None:
    assert catalog.spec(name).stages == STAGES[name]


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_is_in_one_block_and_the_least_images_go_through(name: str) -> None:
    spec = catalog.spec(name)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    skeleton = torchvision_models.skeleton(name, spec.preset.image_size if spec.fixed else spec.least).eval()
    for unit in Unit:
        blocks, head = models.blocks(skeleton, name, unit)  # checks that they cover the model
        assert len(blocks) == len(spec.block_names(unit))
        x = torch.empty(2, 3, *(2 * [spec.preset.image_size if spec.fixed else spec.least]), device="meta")
        assert nn.Sequential(*blocks, head)(x).shape == (2, 1000)
    total = sum(parameter.numel() for part in (*blocks, head) for parameter in part.parameters())
    # GoogLeNet's published number is without its auxiliary heads: twice a convolution with its norm, and two layers.
    extra = 512 * 128 + 528 * 128 + 2 * (2 * 128 + 2049 * 1024 + 1025 * 1000) if name == "googlenet" else 0
    assert total == weights.meta["num_params"] + extra


@pytest.mark.parametrize("name", EVERY)
def test_blocks_one_after_the_other_are_torchvisions_model(name: str) -> None:
    size = catalog.spec(name).least
    torch.manual_seed(0)
    model = torchvision_models.construct(name, size).eval()
    blocks, head = models.blocks(model, name, Unit.block)
    x = channels_last(PLAIN(pixels(2, size)))
    with torch.no_grad():
        whole = model(x.clone())
        assert whole.shape == (2, 1000)
        for block in blocks:
            given = x.clone()
            out = block(x)
            # A block that writes into its input would spoil features that other members and epochs share.
            assert torch.equal(x, given)
            x = out
        torch.testing.assert_close(head(x), whole)


@pytest.mark.parametrize("unit", Unit)
def test_prefix_then_suffix_is_the_whole_model_at_every_depth(built: tuple[str, nn.Module], unit: Unit) -> None:
    name, model = built
    images = pixels(2, 32)
    blocks, head = models.blocks(model, name, unit)
    assert len(blocks) == len(catalog.spec(name).block_names(unit))
    with torch.no_grad():
        whole = model.eval()(channels_last(PLAIN(images)))
        assert whole.shape == (2, 10)
        # Between these, the test above goes from block to block.
        depths = range(len(blocks) + 1) if unit is Unit.stage else (1, len(blocks) // 2, len(blocks))
        for depth in depths:
            network = Network(PLAIN, blocks, head, depth, BatchNorm.frozen).eval()
            features = network.encode(images)
            kept = features.clone()
            torch.testing.assert_close(network.suffix(features), whole, msg=f"{name} {unit} {depth}")
            assert torch.equal(features, kept), f"{name} {unit} {depth}"


def test_depths_leave_the_counted_parameters_to_train(built: tuple[str, nn.Module]) -> None:
    name, model = built
    blocks, head = models.blocks(model, name, Unit.stage)
    for depth, expected in enumerate(TRAINABLE[name]):
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        trainable, frozen = Network(PLAIN, blocks, head, depth, BatchNorm.frozen).count()
        assert (trainable, frozen) == (expected, TRAINABLE[name][0] - expected)
    assert len(TRAINABLE[name]) == len(blocks) + 1


def test_build_gives_torchvisions_own_model() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    ours = models.build("resnet18", models.backbone_state(theirs, "resnet18"), 5, 32, head_seed=0)
    assert {key for key, _ in ours.named_parameters()} == {key for key, _ in theirs.named_parameters()}
    assert [type(module) for module in ours.modules()] == [type(module) for module in theirs.modules()]
    for model in (ours, theirs):
        model.fc = nn.Identity()
    x = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_build_copies_the_state_and_seeds_the_head() -> None:
    state = models.random_state("resnet18", 32, seed=0)
    first, second, other = (models.build("resnet18", state, 10, 32, head_seed=seed) for seed in (0, 0, 1))
    heads = [model.get_parameter("fc.weight") for model in (first, second, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    with torch.no_grad():
        first.get_parameter("conv1.weight").zero_()
    assert state["conv1.weight"].abs().sum() > 0


def test_random_state_follows_its_seed_and_leaves_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (models.random_state("resnet18", 32, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first["conv1.weight"], again["conv1.weight"])
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_parameter_outside_every_block_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert_covered(model, [model[0], model[1]])
    with pytest.raises(RuntimeError, match=r"1\.weight belongs to 0 blocks"):
        assert_covered(model, [model[0]])
    with pytest.raises(RuntimeError, match=r"0\.weight belongs to 2 blocks"):
        assert_covered(model, [model[0], model])


@pytest.mark.parametrize(
    ("name", "unit", "depth", "size", "message"),
    [
        ("resnet81", Unit.stage, 0, 32, "model.name=resnet81: unknown; use one of .* did you mean resnet18"),
        (
            "resnet18",
            Unit.stage,
            9,
            32,
            r"freeze_depth=9: resnet18 has 5 blocks \(stem, layer1..layer4\) .*; use 0..5",
        ),
        ("resnet18", Unit.block, 10, 32, r"freeze_depth=10: resnet18 has 9 blocks"),
        ("resnet18", Unit.stage, 0, 16, "data.image_size=16: resnet18 needs at least 32 pixels"),
        ("alexnet", Unit.stage, 0, 32, "data.image_size=32: alexnet needs at least 63 pixels; use 63 or more"),
        ("inception_v3", Unit.stage, 0, 32, "data.image_size=32: inception_v3 needs at least 75 pixels"),
        ("maxvit_t", Unit.stage, 0, 256, "data.image_size=256: maxvit_t needs a multiple of 224"),
        ("vit_b_16", Unit.stage, 0, 40, "data.image_size=40: vit_b_16 needs a multiple of 16"),
    ],
)
def test_wrong_model_settings_get_one_line(name: str, unit: Unit, depth: int, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        catalog.check(ModelConfig(name), unit, depth, size)


def test_block_table_prints_every_depth(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["resnet18", "--unit", "block", "--classes", "7"])
    printed = capsys.readouterr().out
    assert "layer4.1" in printed
    assert "512 x 1 x 1" in printed
    assert "11,180,103" in printed  # 11,176,512 in the backbone, 7 x 513 in the head
    command.main([])
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalog.NAMES)


def test_unknown_model_in_block_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["resnet99"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_image_size_of_the_table_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["maxvit_t", "--image-size", "100"])
    assert "maxvit_t needs at least 224 pixels" in capsys.readouterr().err


def test_names_that_this_torchvision_lacks_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr(torchvision.models, "list_models", lambda module: ["resnet18"])
    catalog.card.cache_clear()
    with pytest.raises(UserError, match=r"model.name=maxvit_t: torchvision \S+ has no such model; use a newer one"):
        catalog.spec("maxvit_t")


@pytest.mark.slow
def test_a_model_is_planned_from_disk_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from sweep.plan import catalog as c; print(c.spec('resnet18').stages, c.preset('resnet18')); "
        "print('torch' in sys.modules, 'torchvision' in sys.modules)"
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


def test_a_damaged_card_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    catalog.card.cache_clear()
    expected = catalog.spec("squeezenet1_1")
    (kept,) = (tmp_path / "models").iterdir()
    for content in ("", "{}", '{"preset": 3}', kept.read_text().replace("stages", "stairs")):
        kept.write_text(content)
        catalog.card.cache_clear()
        assert catalog.spec("squeezenet1_1") == expected
        assert json.loads(kept.read_text())["stages"] == expected.stages


def test_presets_are_those_of_the_weights() -> None:
    assert catalog.preset("resnet18").image_size == 224
    assert catalog.preset("efficientnet_b7").image_size == 600
    assert catalog.preset("efficientnet_v2_l").mean == (0.5, 0.5, 0.5)
    assert catalog.preset("resnet18").std == (0.229, 0.224, 0.225)


# --- heads of another kind ------------------------------------------------------------------------------------


def test_a_head_without_bias_stays_without_one() -> None:
    skeleton = torchvision_models.skeleton("maxvit_t", 224)
    state = {key: torch.zeros(value.shape) for key, value in models.backbone_state(skeleton, "maxvit_t").items()}
    model = models.build("maxvit_t", state, 7, 224, head_seed=0)
    head = model.get_submodule("classifier.5")
    assert isinstance(head, nn.Linear)
    assert head.out_features == 7
    assert "bias" not in head.state_dict()
    assert not is_head(head), "heads trained side by side have a bias"


def test_squeezenets_head_is_its_last_convolution() -> None:
    state = models.random_state("squeezenet1_1", 32, seed=0)
    model = models.build("squeezenet1_1", state, 7, 32, head_seed=0)
    blocks, head = models.blocks(model, "squeezenet1_1", Unit.stage)
    assert not [key for key in state if key.startswith("classifier")]
    assert {parameter.shape for parameter in head.parameters()} == {(7, 512, 1, 1), (7,)}
    assert not is_head(head)
    network = Network(PLAIN, blocks, head, len(blocks), BatchNorm.frozen)
    assert network.count() == (7 * 513, 722_496)  # torchvision's 1,235,496 less 1,000 x 513
    examples = place(pixels(8, 32), torch.arange(8).numpy(), (torch.arange(8) % 7).numpy(), torch.device("cpu"))
    before = model.get_parameter("classifier.1.weight").detach().clone()
    fit(network, Splits(examples, examples), Recipe(OptimizerConfig(), 1, 4), lr=0.01, seed=0)
    assert not torch.equal(model.get_parameter("classifier.1.weight"), before)


# --- auxiliary heads ------------------------------------------------------------------------------------------


def auxiliaries(model: nn.Module) -> Iterator[WithAuxiliary]:
    return (part for part in model.modules() if isinstance(part, WithAuxiliary))


def network_of(name: str, size: int, depth: int) -> tuple[nn.Module, Network]:
    model = models.build(name, models.random_state(name, size, seed=0), 5, size, head_seed=0)
    blocks, head = models.blocks(model, name, Unit.stage)
    return model, Network(PLAIN, blocks, head, depth, BatchNorm.frozen)


@pytest.mark.parametrize(("name", "size", "weight"), [("googlenet", 64, 0.3), ("inception_v3", 299, 0.4)])
def test_loss_in_training_is_torchvisions_logits_and_auxiliaries_weighed(name: str, size: int, weight: float) -> None:
    model, network = network_of(name, size, 0)
    images, labels = pixels(2, size), torch.tensor([1, 3])
    torch.manual_seed(0)  # dropout
    logits = network.train()(images)
    ours = F.cross_entropy(logits, labels) + auxiliary_loss(network, labels)
    torch.manual_seed(0)
    outputs = model.train()(channels_last(PLAIN(images)))
    first, *others = (F.cross_entropy(output, labels) for output in outputs)
    assert len(others) == len(list(auxiliaries(network)))
    torch.testing.assert_close(ours, first + weight * sum(others))
    ours.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert auxiliary_loss(network, labels) == 0, "what was counted is not kept"


def test_auxiliary_heads_of_frozen_blocks_and_in_evaluation_do_nothing() -> None:
    labels = torch.tensor([1, 3])
    for depth, mode in ((3, True), (4, True), (0, False)):
        _, network = network_of("googlenet", 32, depth)
        network.train(mode)(pixels(2, 32))
        assert auxiliary_loss(network, labels) == 0
    _, network = network_of("googlenet", 32, 2)
    network.train()(pixels(2, 32))
    assert auxiliary_loss(network, labels) > 0


@pytest.mark.parametrize(("depth", "moves"), [(2, True), (3, False)])
def test_training_moves_an_auxiliary_head_with_its_block(depth: int, moves: bool) -> None:
    model, network = network_of("googlenet", 32, depth)
    examples = place(pixels(8, 32), torch.arange(8).numpy(), (torch.arange(8) % 5).numpy(), torch.device("cpu"))
    before = {path: model.get_parameter(path).detach().clone() for path in ("aux1.fc2.weight", "aux2.fc1.weight")}
    assert before["aux1.fc2.weight"].shape == (5, 1024)
    fit(network, Splits(examples, examples), Recipe(OptimizerConfig(), 1, 4), lr=0.01, seed=0)
    for path, value in before.items():
        assert torch.equal(model.get_parameter(path), value) is not moves, path


def test_maps_too_small_for_inceptions_auxiliary_head_leave_it_out() -> None:
    _, network = network_of("inception_v3", 75, 0)
    network.train()(pixels(2, 75))
    assert auxiliary_loss(network, torch.tensor([1, 3])) == 0


def test_normalisation_by_a_half_is_what_torchvision_makes_of_imagenets() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(weights=None, init_weights=True, transform_input=True).eval()
    ours = torchvision_models.construct("googlenet", 32).eval()
    ours.load_state_dict(theirs.state_dict())
    own, images = catalog.preset("googlenet"), pixels(2, 32)
    imagenet = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(ours(Normalize(own.mean, own.std)(images)), theirs(imagenet(images)))
