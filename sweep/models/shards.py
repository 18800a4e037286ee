"""Weights in several files beside an index of them, as Hugging Face's libraries write large models."""

import json
from pathlib import Path

from sweep.errors import UserError


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
