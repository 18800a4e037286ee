import pytest
import torch
import torchvision
from torch import nn

from sweep.config import ModelConfig, Unit
from sweep.errors import UserError
from sweep.models import build as models
from sweep.models.cuts import torchvision as architectures
from sweep.models.frozen import Network, Normalize, channels_last

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


@pytest.fixture(scope="module", params=models.MODELS)
def built(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    name = request.param
    return name, models.build(name, models.random_state(name, 32, seed=0), 10, 32, head_seed=0)


def test_table_names_every_model() -> None:
    assert TRAINABLE.keys() == models.MODELS.keys()


@pytest.mark.parametrize("unit", Unit)
def test_prefix_then_suffix_is_the_whole_model_at_every_depth(built: tuple[str, nn.Module], unit: Unit) -> None:
    name, model = built
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blocks, head = models.blocks(model, name, unit)
    assert len(blocks) == len(models.MODELS[name].block_names(unit))
    with torch.no_grad():
        whole = model.eval()(channels_last(PLAIN(images)))
        assert whole.shape == (2, 10)
        for depth in range(len(blocks) + 1):
            network = Network(PLAIN, blocks, head, depth, "frozen").eval()  # type: ignore[arg-type]
            features = network.encode(images)
            kept = features.clone()
            torch.testing.assert_close(network.suffix(features), whole, msg=f"{name} {unit} {depth}")
            # A suffix that writes into its input would spoil features that other members and epochs share.
            assert torch.equal(features, kept), f"{name} {unit} {depth}"


def test_depths_leave_the_counted_parameters_to_train(built: tuple[str, nn.Module]) -> None:
    name, model = built
    blocks, head = models.blocks(model, name, Unit.stage)
    for depth, expected in enumerate(TRAINABLE[name]):
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        trainable, frozen = Network(PLAIN, blocks, head, depth, "frozen").count()  # type: ignore[arg-type]
        assert (trainable, frozen) == (expected, TRAINABLE[name][0] - expected)
    assert len(TRAINABLE[name]) == len(blocks) + 1


def test_build_gives_torchvisions_own_model() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    ours = models.build("resnet18", models.backbone_state(theirs, "resnet18"), 5, 32, head_seed=0)
    assert {key for key, _ in ours.named_parameters()} == {key for key, _ in theirs.named_parameters()}
    theirs.fc = nn.Identity()  # type: ignore[assignment]
    ours.fc = nn.Identity()
    x = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_build_copies_the_state_and_seeds_the_head() -> None:
    state = models.random_state("resnet18", 32, seed=0)
    first, second, other = (models.build("resnet18", state, 10, 32, head_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.fc.weight, second.fc.weight)  # type: ignore[arg-type, union-attr]
    assert not torch.equal(first.fc.weight, other.fc.weight)  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        first.conv1.weight.zero_()  # type: ignore[operator, union-attr]
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
    architectures.assert_covered(model, [model[0], model[1]])
    with pytest.raises(RuntimeError, match=r"1\.weight belongs to 0 blocks"):
        architectures.assert_covered(model, [model[0]])
    with pytest.raises(RuntimeError, match=r"0\.weight belongs to 2 blocks"):
        architectures.assert_covered(model, [model[0], model])


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
        ("vit_b_16", Unit.stage, 0, 40, "data.image_size=40: vit_b_16 needs a multiple of 16"),
    ],
)
def test_wrong_model_settings_get_one_line(name: str, unit: Unit, depth: int, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.check(ModelConfig(name), unit, depth, size)


def test_block_table_prints_every_depth(capsys: pytest.CaptureFixture[str]) -> None:
    models.main(["resnet18", "--unit", "block", "--classes", "7"])
    printed = capsys.readouterr().out
    assert "layer4.1" in printed
    assert "512 x 1 x 1" in printed
    assert "11,180,103" in printed  # 11,176,512 in the backbone, 7 x 513 in the head
    models.main([])
    listed = capsys.readouterr().out
    assert all(name in listed for name in models.MODELS)


def test_unknown_model_in_block_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        models.main(["resnet99"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
