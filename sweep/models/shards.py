"""Weights in several files beside an index of them, as Hugging Face's libraries write large models."""

import json
from pathlib import Path

from sweep.errors import UserError

HUB_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def file_of(path: Path) -> Path:
    """Return the file of weights: itself, or of a folder as the Hugging Face hub has them; raise UserError for none."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"source.path={path}: no such file")
    found = next((path / name for name in HUB_FILES if (path / name).is_file()), None)
    if found is None:
        raise UserError(
            f"source.path={path}: a folder without {HUB_FILES[0]} or {HUB_FILES[2]}; give a file of weights"
        )
    return found


def of_transformers(file: Path) -> str | None:
    """Return the class of Hugging Face's transformers that a config.json beside the file names, None without one."""
    try:
        found = json.loads((file.parent / "config.json").read_text(encoding="utf-8"))
        return str(found["architectures"][0]) if "transformers_version" in found else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def shards(index: Path) -> list[Path]:
    """Return the files that an index names, which lie beside it; raise UserError if it names none or one is absent."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"source.path={index}: names no shards; give a file of weights, or a sound index") from error
    found = [index.parent / Path(name).name for name in names]
    for shard in found:
        if not shard.is_file():
            raise UserError(f"source.path={index}: names the shard {shard.name}, which is not beside it; put it there")
    return found
