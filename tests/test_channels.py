"""data.channels: images of one, many or chosen bands, from the file to the exported model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torchvision
from conftest import Done
from PIL import Image
from torch import nn

import sweep as package
from sweep import export
from sweep.cli import compose
from sweep.config import Config, DataConfig, Library, ModelConfig, as_first_named, digest, identity
from sweep.data import bands, decode, registry
from sweep.data import task as data
from sweep.errors import UserError
from sweep.models import stem
from sweep.plan import catalog
from sweep.plan.point import plan
from sweep.runs.session import Session

Sweep = Callable[..., Done]


def pixels(count: int, side: int = 40, kind: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Return bands (H, W, count) of noise, of any values of their type."""
    whole = np.random.default_rng(seed).integers(0, np.iinfo(kind).max, (side, side, count), dtype=kind, endpoint=True)
    return np.asarray(whole)


# --- the first convolution --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
def test_channels_that_show_the_colours_again_give_the_same_outputs(channels: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, bias=False)
    colour = torch.rand(2, 3, 8, 8)
    if channels == 1:
        colour = colour[:, :1].expand(2, 3, 8, 8)
    expected = conv(colour)
    stem.widen(model := nn.Sequential(conv), channels)
    made = model(colour[:, torch.arange(channels) % 3])
    assert conv.in_channels == channels
    if channels in (1, 3, 6):  # of others the colours have unequal shares
        torch.testing.assert_close(made, expected)


def test_means_go_with_the_colours() -> None:
    assert stem.normalization((0.1, 0.2, 0.6), 1) == pytest.approx([0.3])
    assert stem.normalization((0.1, 0.2, 0.6), 5) == [0.1, 0.2, 0.6, 0.1, 0.2]
    assert stem.normalization((0.0,), 4) == [0.0] * 4


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11_bn", "swin_t", "vit_b_16", "densenet121"])
def test_models_of_every_kind_take_other_channels(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, num_classes=7)
        stem.widen(model, 8)
        assert model.eval()(torch.empty(2, 8, 224, 224)).shape == (2, 7)


def test_a_model_without_such_a_convolution_is_one_line() -> None:
    with pytest.raises(UserError, match=r"data\.channels: Linear has no first convolution of three channels"):
        stem.widen(nn.Linear(3, 3), 4)


def test_all_convolutions_that_read_the_images_are_widened() -> None:
    model = nn.ModuleDict({"fine": nn.Conv2d(3, 4, 3), "coarse": nn.Conv2d(3, 4, 7), "other": nn.Conv2d(4, 3, 1)})
    stem.widen(model, 6)
    assert [layer.in_channels for layer in model.values()] == [6, 6, 4]


FOLDED = """
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.rest, self.head = nn.Conv2d(12, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 7)

    def forward(self, x):
        return self.head(self.rest(self.stem(F.pixel_unshuffle(x, 2))).mean((2, 3)))


def build():
    return Net()
"""


def test_a_model_that_reads_colour_alone_is_refused_before_anything_is_trained(
    cubes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Config]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"folded_{tmp_path.name}.py").write_text(FOLDED, encoding="utf-8")
    own = f"folded_{tmp_path.name}:build"
    config = tiny(data_name="image_folder", data_root=str(cubes), data_per_class=None, data_channels=[0, 1, 2])
    config.model = ModelConfig("module", Library.module, own)
    assert plan(config).facts.n_blocks == 2
    config.data.channels = 5
    with pytest.raises(UserError, match=r"data\.channels: module/folded_.* takes images of 3 channels alone") as caught:
        plan(config)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_every_model_is_known_to_read_bands_or_not() -> None:
    pytest.importorskip("timm")
    known = {"timm/crossvit_tiny_240": True, "timm/fastvit_t8": True, "timm/tresnet_m": False, "googlenet": True}
    assert {name: catalog.card(name).bands for name in known} == known


# --- reading ----------------------------------------------------------------------------------------------------


def test_bands_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    whole = pixels(13)
    tifffile.imwrite(tmp_path / "a.tif", whole, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "b.tiff", np.moveaxis(whole, 2, 0), photometric="minisblack", planarconfig="separate")
    np.save(tmp_path / "c.npy", whole)
    np.save(tmp_path / "d.npy", np.moveaxis(whole, 2, 0))
    expected = whole[..., [12, 0, 7]].transpose(2, 0, 1)
    for path in sorted(tmp_path.iterdir()):
        assert np.array_equal(decode.decode(path, 40, None, [12, 0, 7]), expected), path.name
        assert np.array_equal(decode.decode(path.read_bytes(), 40, None, 13), whole.transpose(2, 0, 1)), path.name
    Image.fromarray(whole[..., :4], "RGBA").save(tmp_path / "e.png")
    assert np.array_equal(decode.decode(tmp_path / "e.png", 40, None, 4), whole[..., :4].transpose(2, 0, 1))


def test_three_bands_of_eight_bits_are_scaled_as_colour_is(tmp_path: Path) -> None:
    Image.fromarray(pixels(3, 57)).save(tmp_path / "a.png")
    assert np.array_equal(decode.decode(tmp_path / "a.png", 32, None, [0, 1, 2]), decode.decode(tmp_path / "a.png", 32))
    grey = decode.decode(tmp_path / "a.png", 32, None, 1)
    assert grey.shape == (1, 32, 32)
    assert abs(grey.astype(float).mean() - decode.decode(tmp_path / "a.png", 32).mean()) < 3


def test_bands_of_more_bits_are_scaled_by_the_range(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[0, 100], [1000, 5000]]] * 2, np.uint16))
    assert decode.decode(tmp_path / "a.npy", 2, (0, 1000), [0, 1])[:, 0].tolist() == [[0, 255], [26, 255]]
    np.save(tmp_path / "b.npy", np.array([[[0.0, np.nan], [0.5, 1.0]]] * 2))
    assert decode.decode(tmp_path / "b.npy", 2, None, [0, 1])[:, 0].tolist() == [[0, 128], [0, 255]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pixels(3), "has 3 bands, and data.channels asks for number 4, counted from 0"),
        (np.zeros(5), r"has the shape \(5,\)"),
        (np.zeros((2, 2), "<U1"), "type <U1"),
        (np.array([{}]), "allow_pickle"),
    ],
)
def test_what_has_no_such_bands_is_refused(tmp_path: Path, content: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(ValueError, match=said):
        decode.decode(tmp_path / "a.npy", 8, None, 5)


def test_a_damaged_tiff_is_unreadable(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(5), photometric="minisblack")
    content = (tmp_path / "a.tif").read_bytes()
    for cut in (8, 100, len(content) // 2):
        with pytest.raises(decode.UNREADABLE):
            decode.decode(content[:cut], 8, None, 5)


# --- the task ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    """Return a folder of two classes, of arrays of five bands of 16 bits that differ in the last."""
    for label, name in enumerate(("dry", "wet")):
        (tmp_path / "cubes" / name).mkdir(parents=True)
        for number in range(20):
            whole = pixels(5, kind=np.uint16, seed=100 * label + number) // 4
            whole[..., 4] = whole[..., 4] // 8 + 14000 * label
            np.save(tmp_path / "cubes" / name / f"{number:02}.npy", whole)
    return tmp_path / "cubes"


def test_the_default_names_what_it_always_did() -> None:
    old = identity(Config())
    for group in (old["data"], old["source"]["data"]):
        assert group.pop("channels") == 3
    assert digest(as_first_named(old)) == digest(as_first_named(identity(Config())))


def test_tasks_of_other_bands_are_other_tasks(cubes: Path) -> None:
    def config(channels: Any) -> DataConfig:
        return DataConfig("image_folder", str(cubes), channels=channels)

    prints = [data.fingerprint(config(channels)) for channels in (4, 5, [0, 1, 2], [2, 1, 0])]
    assert len({*prints}) == 4
    task = data.load(config([4, 0]), 16)
    assert task.fit.images.shape == (32, 2, 16, 16)
    assert data.pixel_range(config([4, 0])) != data.pixel_range(config([4]))


@pytest.mark.parametrize("channels", [0, -1, "[]", "[0,0]", "all", "1.5", "true", "[-1]"])
def test_wrong_channels_are_one_line(sweep: Sweep, cubes: Path, channels: object) -> None:
    done = sweep("data=image_folder", f"data.root={cubes}", f"data.channels={channels}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: data.channels=")


def test_where_they_mean_nothing_they_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.channels=1: data=textures reads no files of images; leave it out"):
        compose.points(["data=textures", "data.channels=1"], multirun=False)
    with pytest.raises(UserError, match=r"source\.data\.channels=1: weights are trained here on images in colour"):
        compose.points(["source=pretrain", "data@source.data=cifar10", "source.data.channels=1"], multirun=False)


def test_a_tiff_of_many_bands_says_what_reads_it(sweep: Sweep, tmp_path: Path, standin_source: None) -> None:
    for name in ("a", "b"):
        (tmp_path / "tiffs" / name).mkdir(parents=True)
        for number in range(3):
            path = tmp_path / "tiffs" / name / f"{number}.tif"
            tifffile.imwrite(path, pixels(7, seed=number), photometric="minisblack", planarconfig="contig")
    done = sweep("-m", "data=image_folder", f"data.root={tmp_path / 'tiffs'}", "freeze_depth=5")
    assert done.returncode == 2
    assert "; data.channels=4, for example, reads the first 4 bands of a TIFF" in done.stderr


def test_distances_and_scores_are_of_all_bands(cubes: Path, tiny: Callable[..., Config]) -> None:
    config = tiny(data_name="image_folder", data_root=str(cubes), data_per_class=None, data_channels=5, freeze_depth=5)
    point, session = plan(config), Session()
    network = session.network(point, 0)
    assert network.normalize.mean.flatten().tolist() == [0.5] * 5
    assert network.prefix[0][0][0].weight.shape[1] == 5  # type: ignore[index]
    assert session.similarity(point) is not None
    other = Session().network(plan(tiny(freeze_depth=5)), 0)
    assert other.prefix[0][0][0].weight.shape[1] == 3  # type: ignore[index]


@pytest.mark.slow
def test_from_arrays_to_the_exported_model(sweep: Sweep, cubes: Path, tmp_path: Path, standin_source: None) -> None:
    own = ["data=image_folder", f"data.root={cubes}", "data.channels=5", "epochs=3", "seeds=1", "optimizer.lr=0.001"]
    done = sweep("-m", *own, "freeze_depth=0,5", "batch_size=8", "export=best", "name=bands")
    assert done.returncode == 0, done.stderr
    assert "pixel range" not in done.stderr
    assert (tmp_path / "outputs/bands/report.html").exists()
    model = package.load(tmp_path / "outputs/bands/export/cubes")
    assert isinstance(model, export.Classifier)
    path = cubes / "wet" / "00.npy"
    one, same = model.prepare(path), model.prepare(np.load(path))
    assert one.shape == (1, 5, 32, 32)
    assert torch.equal(one, same)
    assert model(one).shape == (1, 2)
    task = data.load(DataConfig("image_folder", str(cubes), channels=5), 32)
    names = [
        registry.open(DataConfig("image_folder", str(cubes), channels=5)).image_name("train", row)
        for row in task.fit.rows
    ]
    if "wet/00.npy" in names:
        assert np.array_equal(one[0].numpy(), task.fit.images[names.index("wet/00.npy")])


def test_people_see_three_channels() -> None:
    whole = pixels(5).transpose(2, 0, 1)
    assert np.array_equal(bands.visible(whole), whole[:3])
    assert np.array_equal(bands.visible(whole[:1]), whole[[0, 0, 0]])
    assert np.array_equal(bands.visible(whole[:2]), whole[[0, 1, 1]])
