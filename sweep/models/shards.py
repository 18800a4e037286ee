"""Weights in several files beside an index of them, as Hugging Face's libraries write large models."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from sweep.errors import UserError

SIDES = range(8, 4097)  # pixels, of images
HUB_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def file_of(path: Path) -> Path:
    """Return the file of weights: itself, or of a folder as the Hugging Face hub has them; raise UserError for none."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"source.path={path}: {_instead_of_a_file(path)}")
    found = next((path / name for name in HUB_FILES if (path / name).is_file()), None)
    if found is None:
        raise UserError(
            f"source.path={path}: a folder without {HUB_FILES[0]} or {HUB_FILES[2]}; give a file of weights"
        )
    return found


def _instead_of_a_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {path.readlink()}, where there is no file"
    kinds = {"a pipe": path.is_fifo, "a socket": path.is_socket, "a device": path.exists}
    kind = next((kind for kind, is_kind in kinds.items() if is_kind()), None)
    return "no such file" if kind is None else f"it is {kind}; give a file of weights"


class Card(NamedTuple):
    """What the JSON files of a hub's folder say of its weights; None for what they do not say.

    architecture: of timm. mean, std: of pixels in 0..1. image_size: pixels.
    """

    architecture: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    image_size: int | None = None


def card(file: Path) -> Card:
    """Return what config.json (of timm) or preprocessor_config.json (of transformers) beside a file say."""
    own = _json(file.parent / "config.json")
    cfg = own.get("pretrained_cfg")
    if isinstance(cfg, dict):
        architecture, size = own.get("architecture"), cfg.get("input_size")
        side = size[-1] if isinstance(size, list) and size and size[-1] in SIDES else None
        named = architecture if isinstance(architecture, str) else None
        return Card(named, _three(cfg.get("mean")), _three(cfg.get("std")), side)
    other = _json(file.parent / "preprocessor_config.json")
    return Card(mean=_three(other.get("image_mean")), std=_three(other.get("image_std")))


def _three(value: Any) -> list[float] | None:
    numbers = isinstance(value, list) and len(value) == 3 and all(type(each) in (int, float) for each in value)
    return [float(each) for each in value] if numbers else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def of_transformers(file: Path) -> str | None:
    """Return the class of Hugging Face's transformers that a config.json beside the file names, None without one."""
    found = _json(file.parent / "config.json")
    try:
        return str(found["architectures"][0]) if "transformers_version" in found else None
    except (KeyError, TypeError, IndexError):
        return None


def named(index: Path) -> set[str]:
    """Return the names of the tensors that an index names."""
    return {*map(str, _weight_map(index))}


def _weight_map(index: Path) -> dict[str, Any]:
    try:
        return {**json.loads(index.read_text(encoding="utf-8"))["weight_map"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"source.path={index}: names no shards; give a file of weights, or a sound index") from error


def shards(index: Path) -> list[Path]:
    """Return the files that an index names, which lie beside it; raise UserError if it names none or one is absent."""
    names = sorted({*map(str, _weight_map(index).values())})
    found = [index.parent / Path(name).name for name in names]
    for shard in found:
        if not shard.is_file():
            raise UserError(f"source.path={index}: names the shard {shard.name}, which is not beside it; put it there")
    return found
