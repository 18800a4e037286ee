"""MODELS: which networks there are, and into which blocks they fall.

`python -m sweep.models resnet18` prints a model's blocks and what each freeze_depth leaves to train.
The table itself needs no torch, so that a whole grid is checked in a moment; build() and blocks() do.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sweep.config import ModelConfig, Unit
from sweep.errors import UserError, unknown
from sweep.models.cuts import timm as timm_models

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sweep.models.convolutions import Window

State = dict[str, "Tensor"]


@dataclass(frozen=True)
class ModelSpec:
    """One entry of MODELS.

    family: which function of architectures.FAMILIES cuts it. stages: blocks per stage, in forward order; with
    freeze.unit=stage a stage is one block, with freeze.unit=block each of its parts is.
    patch: image_size must be a multiple of this (1 = any). least: the smallest image_size that it can take.
    """

    family: str
    stages: dict[str, int]
    least: int = 32  # pixels
    patch: int = 1  # pixels
    fixed: bool = False  # whether weights fit one image size only: a transformer learns one position per patch

    def block_names(self, unit: Unit) -> list[str]:
        if unit is Unit.stage:
            return list(self.stages)
        return [
            stage if count == 1 else f"{stage}.{part}" for stage, count in self.stages.items() for part in range(count)
        ]


def _stages(**counts: int) -> dict[str, int]:
    return counts


MODELS: dict[str, ModelSpec] = {
    "resnet18": ModelSpec("resnet", _stages(stem=1, layer1=2, layer2=2, layer3=2, layer4=2)),
    "resnet34": ModelSpec("resnet", _stages(stem=1, layer1=3, layer2=4, layer3=6, layer4=3)),
    "resnet50": ModelSpec("resnet", _stages(stem=1, layer1=3, layer2=4, layer3=6, layer4=3)),
    "mobilenet_v2": ModelSpec("mobilenet", _stages(stride2=2, stride4=2, stride8=3, stride16=7, stride32=5)),
    "efficientnet_b0": ModelSpec("efficientnet", _stages(stride2=2, stride4=2, stride8=2, stride16=6, stride32=6)),
    "vgg11_bn": ModelSpec("vgg", _stages(conv1=1, conv2=1, conv3=2, conv4=2, conv5=2, hidden=2)),
    "densenet121": ModelSpec("densenet", _stages(stem=1, dense1=7, dense2=13, dense3=25, dense4=16)),
    "vit_b_16": ModelSpec("vit", _stages(embed=1, layers0_2=3, layers3_5=3, layers6_8=3, layers9_11=3), 16, 16, True),
    "convnext_tiny": ModelSpec("convnext", _stages(stem=1, stage1=3, stage2=4, stage3=10, stage4=4)),
    "swin_t": ModelSpec("swin", _stages(embed=1, stage1=2, stage2=3, stage3=7, stage4=3)),
}


def spec(name: str, image_size: int | None = None) -> ModelSpec:
    """Return what is known of a model, without building it where it was built before.

    name: as ModelConfig.full_name. image_size: pixels, at which a timm model must run.
    raises: UserError if there is no such model, or it cannot be cut, or cannot take such images.
    """
    if name in MODELS:
        return MODELS[name]
    if not name.startswith(timm_models.PREFIX):
        raise unknown("model.name", name, MODELS)
    card = timm_models.card(name, image_size)
    if card.refused:
        raise UserError(
            f"data.image_size={image_size}: {name} cannot take such images ({card.refused}); its weights' own size is "
            f"{card.image_size}"
        )
    return ModelSpec("timm", card.stages, 1, 1, card.fixed)


class Preset(NamedTuple):
    """What a model's own pretrained weights expect: pixels, and the normalisation of pixels in 0..1."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def preset(name: str) -> Preset:
    """Return the preset of timm's weights, or for torchvision's models what ImageNet's are mostly trained with."""
    if name.startswith(timm_models.PREFIX):
        card = timm_models.card(name, None)
        return Preset(card.image_size, card.mean, card.std)
    return Preset(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def check(config: ModelConfig, unit: Unit, freeze_depth: int, image_size: int) -> None:
    """Raise UserError if the model is unknown, has no such depth, or cannot take such images."""
    name = config.full_name
    found = spec(name, image_size)
    names = found.block_names(unit)
    if freeze_depth > len(names):
        span = ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}..{names[-1]}"
        raise UserError(
            f"freeze_depth={freeze_depth}: {name} has {len(names)} blocks ({span}) with "
            f"freeze.unit={unit}; use 0..{len(names)}"
        )
    if image_size < found.least:
        raise UserError(
            f"data.image_size={image_size}: {name} needs at least {found.least} pixels; use {found.least} or more"
        )
    if image_size % found.patch:
        raise UserError(f"data.image_size={image_size}: {name} needs a multiple of {found.patch}")


def random_state(name: str, image_size: int, seed: int) -> State:
    """Return the backbone weights that torchvision's own initialisation draws under this seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone_state(_construct(name, image_size), name)


def backbone_state(model: nn.Module, name: str) -> State:
    """Return the model's parameters and buffers without its head, under its library's names."""
    head = _head_path(model, name) + "."
    return {key: value for key, value in model.state_dict().items() if not key.startswith(head)}


def split_state(state: Mapping[str, Tensor], name: str, image_size: int) -> tuple[State, State]:
    """Return (backbone, head): tensors under the library's names, and weight and bias of the last linear layer."""
    head = _head_path(_skeleton(name, image_size), name) + "."
    backbone = {key: value for key, value in state.items() if not key.startswith(head)}
    return backbone, {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}


def _head_path(model: nn.Module, name: str) -> str:
    from sweep.models.cuts import torchvision as architectures

    if name.startswith(timm_models.PREFIX):
        return timm_models.head_path(model, name)
    return architectures.FAMILIES[MODELS[name].family].head


def build(name: str, state: State, n_classes: int, image_size: int, head_seed: int) -> nn.Module:
    """Return the model with a copy of these backbone weights and a new linear head.

    state: as from backbone_state(); exactly the backbone's tensors. head_seed: fixes the head's initialisation
    (torch's default for a linear layer), the same at every depth and for every source.
    """
    import torch

    from sweep.models import convolutions
    from sweep.models.cuts import torchvision as architectures

    if name.startswith(timm_models.PREFIX):  # timm's models also have buffers that are in no state dict
        with torch.random.fork_rng(devices=[]):
            model = _construct(name, image_size)
    else:
        model = copy.deepcopy(_skeleton(name, image_size))
    path = _head_path(model, name)
    old = model.get_submodule(path)
    if not isinstance(old, torch.nn.Linear):
        raise TypeError(f"{name}: the head {path} is a {type(old).__name__}, not a Linear")
    head = linear(old.in_features, n_classes, head_seed)
    architectures.set_submodule(model, path, head)
    own = {f"{path}.{key}": value for key, value in head.state_dict().items()}
    model.load_state_dict({key: value.detach().clone() for key, value in state.items()} | own, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    convolutions.replace(model, _replaceable(name, image_size))
    return model


@functools.lru_cache(maxsize=4)
def _replaceable(name: str, image_size: int) -> dict[str, Window | None]:
    from sweep.models import convolutions

    return convolutions.choose(copy.deepcopy(_skeleton(name, image_size)), image_size)


def linear(in_features: int, n_classes: int, seed: int) -> nn.Linear:
    """Return a new head; a seed gives the same one for every source and depth."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Linear(in_features, n_classes)


def blocks(model: nn.Module, name: str, unit: Unit) -> tuple[list[nn.Module], nn.Module]:
    """Return the model's blocks, in forward order, and its head: head(block_n(...block_1(images))) is the model.

    The modules are the model's own: training a block trains the model. For most families the head is the last
    linear layer and the dropout before it.
    raises: RuntimeError if a parameter or buffer is in no block, or in two.
    """
    from torch import nn

    from sweep.models.cuts import torchvision as architectures

    if name.startswith(timm_models.PREFIX):
        parts, head, stages = timm_models.cut(model, name)
    else:
        stages = MODELS[name].stages
        parts, head = architectures.FAMILIES[MODELS[name].family].cut(model)
    if len(parts) != sum(stages.values()):
        raise RuntimeError(f"{name}: cut into {len(parts)} parts, the table says {sum(stages.values())}")
    architectures.assert_covered(model, [*parts, head])
    if unit is Unit.block:
        return parts, head
    rest = iter(parts)
    return [nn.Sequential(*itertools.islice(rest, count)) for count in stages.values()], head


@functools.lru_cache(maxsize=4)
def _skeleton(name: str, image_size: int) -> nn.Module:
    """Return the model without weights: they would be replaced at once, and to draw them takes time."""
    import torch

    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return _construct(name, image_size)


def _construct(name: str, image_size: int) -> nn.Module:
    if name.startswith(timm_models.PREFIX):
        return timm_models.construct(name, image_size)
    import torchvision

    options = {"image_size": image_size} if MODELS[name].family == "vit" else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model


def block_table(name: str, unit: Unit, image_size: int, n_classes: int) -> str:
    """Return the printed table of blocks: parameters, output shape, and what each depth leaves to train."""
    import torch
    from tabulate import tabulate

    state = random_state(name, image_size, seed=0)
    model = build(name, state, n_classes, image_size, head_seed=0).eval()
    parts, head = blocks(model, name, unit)
    sizes = [sum(p.numel() for p in part.parameters()) for part in [*parts, head]]
    x = torch.zeros(1, 3, image_size, image_size)
    rows: list[tuple[str, ...]] = [("0", "(nothing frozen)", "", "", f"{sum(sizes):,}")]
    with torch.no_grad():
        for depth, (label, part) in enumerate(
            zip(spec(name, image_size).block_names(unit), parts, strict=True), start=1
        ):
            x = part(x)
            rows.append((str(depth), label, f"{sizes[depth - 1]:,}", _shape(x), f"{sum(sizes[depth:]):,}"))
        rows.append(("", "head", f"{sizes[-1]:,}", _shape(head(x)), ""))
    columns = ["freeze_depth", "last frozen block", "parameters", "output", "left to train"]
    title = f"{name}, freeze.unit={unit}, images 3 x {image_size} x {image_size}, {n_classes} classes"
    return f"{title}\n\n" + tabulate(
        rows, headers=columns, colalign=("right", "left", "right", "left", "right"), disable_numparse=True
    )


def _shape(x: Tensor) -> str:
    return " x ".join(str(side) for side in x.shape[1:])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sweep.models",
        description="Print a model's blocks: name, parameters, output shape, what each freeze_depth leaves to train.",
    )
    parser.add_argument("model", nargs="?", help="one of: " + ", ".join(MODELS) + ", timm/NAME (none: list them)")
    parser.add_argument("--unit", choices=[unit.value for unit in Unit], default="stage", help="freeze.unit")
    parser.add_argument("--image-size", type=int, default=32, metavar="PIXELS")
    parser.add_argument("--classes", type=int, default=10, metavar="N")
    options = parser.parse_args(argv)
    if options.model is None:
        for name, entry in MODELS.items():
            stages = entry.stages
            print(f"{name:16} {len(stages)} stages: {', '.join(stages)}; {sum(stages.values())} blocks")
        print("timm/NAME        any model of timm's that can be cut (pip install freeze-sweep[timm])")
        return
    try:
        check(ModelConfig(options.model), Unit(options.unit), 0, options.image_size)
        if options.classes < 1:
            raise UserError(f"--classes {options.classes}: use 1 or more")
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    print(block_table(options.model, Unit(options.unit), options.image_size, options.classes))
