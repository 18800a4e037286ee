"""Writes docs/compatibility.md: which models, files of weights and data sets were tried, and what came of it.

    python -m benchmarks.compatibility [--to docs/compatibility.md]

Every row is run. Models are cut, not trained: that the blocks, one after the other, are the model, is what
tests/test_timm_families.py and tests/test_models.py check.
"""

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from tabulate import tabulate

from benchmarks.kept import KEPT
from sweep.config import DataConfig, Unit
from sweep.data import registry
from sweep.data import task as data
from sweep.errors import UserError
from sweep.models import build, weights
from sweep.plan import catalog

DOCS = Path(__file__).parent.parent / "docs" / "compatibility.md"

# One architecture of every module of timm's, the smallest there, and some that are asked for.
TIMM = (
    *("beit_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "coat_tiny", "convit_tiny", "convmixer_768_32"),
    *("cpubone_nano", "crossvit_tiny_240", "cs3darknet_focus_s", "csatv2", "cspnext_tiny", "davit_tiny"),
    *("deepseek_vit_412m", "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224", "densenet121", "dla46x_c"),
    *("dpn48b", "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientvim_m1"),
    *("efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_slim_dw", "eva02_tiny_patch14_224", "fasternet_t0"),
    *("fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "gemma4_vit_167m", "ghostnet_050", "gmlp_ti16_224"),
    *("halonet_h1", "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "iformer_t"),
    *("inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small"),
    *("legacy_seresnet18", "legacy_xception", "levit_128s", "lowformer_b0", "mobilenetv3_small_050"),
    *("mobilenetv5_base", "mobilevit_xxs", "mvitv2_tiny", "naflexvit_base_patch16_parfac_gap", "nasnetalarge"),
    *("nest_tiny", "nextvit_small", "pit_ti_224", "pnasnet5large", "poolformer_s12", "poolformerv2_s12", "pvt_v2_b0"),
    *("qwen3_vit_88m", "rdnet_tiny", "regnetx_002", "repghostnet_050", "repvit_m0_9", "repvit_m1", "res2next50"),
    *("resnest14d", "resnet50_clip", "resnetv2_18", "resnetv2_50x1_bit", "rexnet_100", "sam2_hiera_tiny"),
    *("samvit_base_patch16_224", "selecsls42", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050"),
    *("swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224", "swinv2_tiny_window16_256"),
    *("test_byobnet", "test_coatnet", "test_convnext", "test_efficientnet", "test_mambaout", "test_nfnet"),
    *("test_resnet", "test_vit", "test_vit_relpos", "tiny_vit_5m_224", "tnt_s_legacy_patch16_224", "tresnet_m"),
    *("twins_svt_small", "vgg11", "visformer_tiny", "vit_base_patch16_siglip_224", "vit_base_patch16_siglip_gap_224"),
    *("vit_base_patch32_clip_224", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"),
    *("vit_tiny_patch16_dinov3_qkvb", "vit_tiny_r_s16_p8_224", "vitamin_small_224", "volo_d1_224", "xception41p"),
    *("xcit_nano_12_p8_224",),
)

# One architecture of every family of torchvision's.
TORCHVISION = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vit_b_16"),
    "wide_resnet50_2",
)


class Row(NamedTuple):
    """One thing that was tried: its family, an example of it, and what came of it, in a line."""

    family: str
    example: str
    result: str


def models(names: Iterable[str]) -> Iterator[Row]:
    """Yield how each model is cut, or why it is not."""
    for name in names:
        library = "timm" if name.startswith("timm/") else "torchvision"
        try:
            spec = catalog.spec(name)
        except UserError as error:
            yield Row(library, name, f"refused: {error}")
            continue
        counts = [len(spec.block_names(unit)) for unit in (Unit.stage, Unit.block)]
        yield Row(library, name, f"{counts[0]} blocks, {counts[1]} with freeze=block")


State = dict[str, torch.Tensor]


def _numbered(state: State) -> State:
    children = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    parts = {key: key.partition(".") for key in state}
    return {f"{children[first]}.{rest}": state[key] for key, (first, _, rest) in parts.items() if first in children}


def _grey(state: State) -> State:
    return state | {"conv1.weight": state["conv1.weight"].sum(1, keepdim=True)}


def _under(*names: str) -> Callable[[State], Any]:
    def wrapped(state: State) -> Any:
        content: Any = state
        for name in reversed(names):
            content = {name: content}
        return content

    return wrapped


def _before(prefix: str) -> Callable[[State], Any]:
    return lambda state: {"state_dict": {f"{prefix}{key}": value for key, value in state.items()}}


# What tools write: the family, and the content of the file for a ResNet-18's tensors.
CHECKPOINTS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "plain": ("state_dict()", lambda state: state),
    "DataParallel, DDP": ("module.", _before("module.")),
    "torch.compile": ("_orig_mod.", _before("_orig_mod.")),
    "FSDP": ("_fsdp_wrapped_module.", _before("_fsdp_wrapped_module.")),
    "Lightning": ("state_dict, model.backbone.", _before("model.backbone.")),
    "MMPretrain": ("state_dict, backbone.", _before("backbone.")),
    "MoCo": ("module.encoder_q.", _before("module.encoder_q.")),
    "SimSiam": ("module.encoder.", _before("module.encoder.")),
    "SimCLR": ("f.", _before("f.")),
    "BYOL": ("online_encoder.net.", _before("online_encoder.net.")),
    "DINO": ("teacher, backbone.", lambda state: {"teacher": _before("backbone.")(state)["state_dict"]}),
    "timm, EMA": ("state_dict and state_dict_ema", lambda state: {"state_dict": state, "state_dict_ema": state}),
    "any dictionary": ("weights.best", _under("weights", "best")),
    "nn.Sequential": ("0.weight, 4.0.conv1.weight", _numbered),
    "grey images": ("one channel", _grey),
    "half precision": ("float16", lambda state: {key: value.half() for key, value in state.items()}),
    "arrays of numpy": ("in torch.save's file", lambda state: {key: value.numpy() for key, value in state.items()}),
    "before 2018": (
        "no num_batches_tracked",
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ),
    "another architecture": ("resnet34", lambda _: build.random_state("resnet34", 32, seed=0)),
    "other stem": ("3x3, as for CIFAR", lambda state: state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}),
    "diverged": ("NaN", lambda state: state | {"conv1.weight": torch.full((64, 3, 7, 7), float("nan"))}),
}


def checkpoints(families: Iterable[str]) -> Iterator[Row]:
    """Yield what is found in a file of each family, for ResNet-18."""
    state = build.random_state("resnet18", 32, seed=0)
    for family in families:
        example, content = CHECKPOINTS[family]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pth"
            torch.save(content(dict(state)), path)
            yield Row(family, example, _said(partial(_load, path), folder))


def _said(run: Callable[[], Sequence[str]], folder: str) -> str:
    """Return what is said, without the folder, or the refusal."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            said = "; ".join(run())
    except UserError as error:
        said = f"refused: {error}"
    return said.replace(f"{folder}{os.sep}", "").replace(folder, "FOLDER").replace("|", "\\|")


LAYOUTS: dict[str, tuple[str, ...]] = {
    "classes": ("a", "b"),
    "splits": ("train/a", "train/b", "test/a", "test/b"),
    "three splits": ("train/a", "train/b", "val/a", "val/b", "test/a", "test/b"),
    "other spellings": ("Training/a", "Training/b", "Valid/a", "Valid/b", "Testing/a", "Testing/b"),
    "one folder further in": ("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b"),
    "hidden folders": ("a", "b", "a/.ipynb_checkpoints", "b/@eaDir"),
    "no validation, no test split": ("train/a", "train/b", "val/a", "val/b"),
    "a class named as a split": ("a", "b", "train"),
}
FORMATS = ("png", "jpg", "gif", "webp", "tif", "bmp")


def folders(names: Iterable[str], formats: Iterable[str] = ()) -> Iterator[Row]:
    """Yield how images in folders of each layout, and of each format, are read."""
    for name, layout, suffix in (
        *((each, LAYOUTS[each], "png") for each in names),
        *((f"{each} files", ("a", "b"), each) for each in formats),
    ):
        with tempfile.TemporaryDirectory() as folder:
            for place, path in enumerate(layout):
                (Path(folder) / path).mkdir(parents=True, exist_ok=True)
                for number in range(6):
                    colour = (40 * place, 40 * number, 90)
                    Image.new("RGB", (8, 8), colour).save(Path(folder) / path / f"{number}.{suffix}")
            yield Row(name, ", ".join(f"{each}/" for each in layout), _said(partial(_read, folder), folder))


def others(names: Iterable[str]) -> Iterator[Row]:
    """Yield how a data set of each other kind is read."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            config = KEPT[name].write(Path(folder))
            yield Row(name, KEPT[name].example.replace("|", "\\|"), _said(partial(_counted, config), folder))


def _load(path: Path) -> Sequence[str]:
    return weights.checkpoint(path, "resnet18", 32).notes


def _read(folder: str) -> list[str]:
    return _counted(DataConfig("image_folder", root=folder))


def _counted(config: DataConfig) -> list[str]:
    registry.forget()
    task = data.load(config, 8)
    counts = {"train": task.train, "validation": task.val, "test": task.test}
    return [f"{len(task.classes)} classes", *(f"{len(part.labels)} {name} images" for name, part in counts.items())]


def rows() -> dict[str, list[Row]]:
    """Return all rows, by their part of the document."""
    return {
        "Models": [*models(TORCHVISION), *models(f"timm/{name}" for name in TIMM)],
        "Files of weights": [*checkpoints(CHECKPOINTS)],
        "Folders of images": [*folders(LAYOUTS, FORMATS)],
        "Tables, parquet, arrow and tar files": [*others(KEPT)],
    }


def table(found: Sequence[Row]) -> str:
    """Return rows as a table in Markdown."""
    return tabulate(found, headers=["family", "example", "result"], tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=DOCS)
    options = parser.parse_args()
    parts = "\n\n".join(f"## {title}\n\n{table(found)}" for title, found in rows().items())
    intro = "Made by `python -m benchmarks.compatibility`, which tries every row."
    options.to.write_text(f"# What was tried\n\n{intro}\n\n{parts}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
