"""The models that there are, and what planning must know of them: blocks, image sizes, normalisation. No torch.

What only a built model can tell is read off one, once, and kept in <cache folder>/models/, one file per library
version, model and image size.
"""

import difflib
import functools
import importlib.metadata
import json
import re
import textwrap
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from sweep import factory
from sweep.config import Library, ModelConfig, Unit, digest
from sweep.data.bands import COLOUR
from sweep.errors import UserError
from sweep.models.spec import OWN, TIMM, ModelSpec, Preset
from sweep.paths import cache_folder, write_json

FORMAT = 3  # of the kept files; raise it when a cut or a field changes

# torchvision's classification models.
NAMES = (
    *("alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *(f"efficientnet_b{number}" for number in range(8)),
    *("efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t"),
    *("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
    *(f"regnet_x_{size}" for size in ("16gf", "1_6gf", "32gf", "3_2gf", "400mf", "800mf", "8gf")),
    *(f"regnet_y_{size}" for size in ("128gf", "16gf", "1_6gf", "32gf", "3_2gf", "400mf", "800mf", "8gf")),
    *("resnet101", "resnet152", "resnet18", "resnet34", "resnet50"),
    *("resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    *("squeezenet1_0", "squeezenet1_1", "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t"),
    *(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
    *("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32", "wide_resnet101_2", "wide_resnet50_2"),
)
_SHOWN = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16")  # in errors


def listing() -> str:
    """Return the list of models, as printed."""
    listed = textwrap.fill(", ".join(NAMES), 100, break_long_words=False, break_on_hyphens=False)
    more = "timm/NAME: any model of timm's that can be cut (pip install timm)\nmodule/FILE:NAME: yours (docs/own.md)"
    return f"{listed}\n{more}\nOne model's blocks: python -m sweep.models NAME"


@functools.lru_cache(maxsize=512)
def card(name: str, image_size: int | None = None) -> ModelSpec:
    """Return what is known of a model, from disk where it was read off before.

    name: as ModelConfig.full_name. image_size: pixels at which one of timm's models must run; None to ask for nothing
    that depends on it. returns: with `refused` if it cannot take such images.
    raises: UserError if there is no such model, or it cannot be cut.
    """
    if name.startswith(OWN):
        library, short = "torch", digest(name)
    elif name.startswith(TIMM):
        library, short = "timm", name.removeprefix(TIMM)
    elif name in NAMES:
        library, short = "torchvision", name
        image_size = None  # what torchvision's models take is known for all sizes
    else:
        raise _unknown(name)
    file = f"{FORMAT}-{library}-{_version(library)}-{short.replace('/', '_')}-{image_size or 'any'}.json"
    path = cache_folder() / "models" / file
    kept = _read(path)
    if kept is None:
        from sweep.models import cards  # noqa: PLC0415  # brings torch, which a plan whose cards are kept does without

        kept = cards.make(name, image_size)
        _write(path, kept)
    return kept


def _unknown(name: str) -> UserError:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(
        f"model.name={name}: unknown; use one of {', '.join(_SHOWN)}, ... "
        f"(python -m sweep.models lists all {len(NAMES)}){hint}"
    )


def _version(library: str) -> str:
    """Return a library's version without importing it; raise UserError if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"model={library}: {library} is not installed; pip install {library}") from None


def _read(path: Path) -> ModelSpec | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        preset = found["preset"]
        own = Preset(preset["image_size"], tuple(preset["mean"]), tuple(preset["std"]))
        return ModelSpec(**found | {"preset": own})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, spec: ModelSpec) -> None:
    with suppress(OSError):  # a cache that cannot be written costs a second, not the sweep
        write_json(path, asdict(spec))


def named(name: str, blocks: list[str] | None = None) -> ModelConfig:
    """Return the settings of a model by the name that tables show, or by module/FILE:NAME and its blocks."""
    own = name.startswith(OWN)
    config = ModelConfig("module", Library.module, name.removeprefix(OWN)) if own else ModelConfig(name)
    return resolved(replace(config, blocks=blocks))


def resolved(config: ModelConfig) -> ModelConfig:
    """Return the settings with the name of a model of the user's own, which says its content; others as they are.

    raises: UserError if its file is not there, or settings do not go together.
    """
    if config.library is not Library.module:
        if config.factory is not None or config.blocks is not None:
            given = "factory" if config.factory is not None else "blocks"
            raise UserError(f"model.{given}={getattr(config, given)}: only model=module has it; add model=module")
        return config
    if not config.factory:
        raise UserError("model.factory is not set: model=module needs model.factory=FILE:NAME, such as my_file:build")
    blocks = config.blocks if isinstance(config.blocks, list | None) else [config.blocks]
    for block in blocks or []:
        try:
            re.compile(block)
        except (re.error, TypeError) as error:
            raise UserError(f"model.blocks: {block} is no regular expression ({error})") from error
    if blocks is not None and len({*blocks}) < max(1, len(blocks)):
        raise UserError(f"model.blocks={blocks}: list every block once, at least one, or use null to have them found")
    content = factory.content("model.factory", config.factory)
    name = f"{config.factory}@{content}{json.dumps(blocks) if blocks else ''}"
    return replace(config, name=name, blocks=blocks)


def spec(name: str, image_size: int | None = None) -> ModelSpec:
    """Return what is known of a model; raise UserError as card(), and if it cannot take images of this size."""
    found = card(name, image_size)
    if found.refused:
        known = "" if name.startswith(OWN) else f"; its weights' own size is {found.preset.image_size}"
        raise UserError(f"data.image_size={image_size}: {name} cannot take such images ({found.refused}){known}")
    return found


def preset(name: str) -> Preset:
    """Return what the library's pretrained weights of a model expect, by default."""
    return card(name).preset


def check_channels(name: str, image_size: int, channels: int) -> None:
    """Raise UserError if the model cannot take images of so many channels."""
    if channels != COLOUR and not spec(name, image_size).bands:
        raise UserError(
            f"data.channels: {name} takes images of {COLOUR} channels alone, because no first convolution of that many "
            f"reads them all; use another model, data.channels={COLOUR}, or a list of {COLOUR} bands"
        )


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
