"""What a file holds in other names than the model's, converted: by timm's own functions, and from transformers."""

import copy
import inspect
import io
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from sweep.models import transformers
from sweep.models.cuts import timm
from sweep.models.places import dictionaries
from sweep.models.spec import TIMM

State = dict[str, Tensor]
# What torch.compile, FSDP, the checkpointing of activations and DDP add to the names of layers that they are given.
WRAPPERS = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
CHUNK = re.compile(r"\bblocks\.\d+\.(\d+)\.")
JAX_HEAD = re.compile(r"(?:^|/)head/(?:conv2d/)?kernel$")
JAX_BLOCK = re.compile(r"\bblock\d+/unit\d+/|\bencoderblock_\d+/")
JAX_STACK = "/encoderblock/"  # all blocks' arrays in one, along the first dimension
FILTER = "checkpoint_filter_fn"  # what timm calls the function that reads the files of a model's authors


class Conversion(NamedTuple):
    """A dictionary of a file, in the model's own names. how: what names the file has, in words."""

    how: str
    tensors: State


def conversions(found: Any, model: str, image_size: int, own: Mapping[str, Tensor]) -> Iterator[Conversion]:
    """Yield every dictionary of a file as each conversion makes it, where it makes anything of it."""
    filters = [*_filters(model, image_size)]
    for path, tensors in dictionaries(found, ""):
        where = f"{path}: " if path else ""
        unwrapped = {WRAPPERS.sub("", key): value for key, value in tensors.items()}
        if unwrapped.keys() != tensors.keys():
            yield Conversion(f"{where}names without what wraps single layers", unwrapped)
        folded = _pruned(unwrapped)
        if folded.keys() != unwrapped.keys():
            yield Conversion(f"{where}pruned weights with their masks", folded)
        renamed = transformers.renamed(tensors, model, own)
        if renamed is not None:
            yield Conversion(f"{where}names of {transformers.LIBRARY}", renamed)
        whole = _unchunked(tensors)
        if whole.keys() != tensors.keys():
            yield Conversion(f"{where}blocks out of their chunks", whole)
        bare = _without_prefix(whole)
        for convert in filters:
            try:
                made = convert(dict(bare))
            except Exception:  # whatever timm makes of another model's file
                continue
            yield Conversion(f"{where}names of its authors, as timm reads them", made)


def _pruned(tensors: State) -> State:
    """Return tensors with each weight that torch.nn.utils.prune keeps as weight_orig and weight_mask in one."""
    made = dict(tensors)
    for key, value in tensors.items():
        name = key.removesuffix("_mask")
        original = tensors.get(f"{name}_orig")
        if name != key and original is not None and original.shape == value.shape:
            made[name] = made.pop(f"{name}_orig") * made.pop(key)
    return made


def _unchunked(tensors: State) -> State:
    """Return tensors with blocks.2.9 as blocks.9: DINOv2 trains its blocks in chunks, whose numbers go on."""
    made = {CHUNK.sub(r"blocks.\1.", key): value for key, value in tensors.items()}
    return made if len(made) == len(tensors) else tensors  # else the second number begins anew, as in an EfficientNet


def _without_prefix(tensors: State) -> State:
    """Return tensors without what all of their names begin with."""
    starts = {key.partition(".")[0] for key in tensors if "." in key}
    if len(starts) == 1 and all("." in key for key in tensors):
        return _without_prefix({key.partition(".")[2]: value for key, value in tensors.items()})
    return tensors


def _filters(model: str, image_size: int) -> Iterator[Callable[[State], State]]:
    """Yield the function with which timm reads the files of the model's authors, in the ways that it has."""
    if not model.startswith(TIMM):
        return
    built = timm.construct(model, image_size)
    if hasattr(built, "load_pretrained"):
        yield lambda tensors: _from_jax(tensors, built)
    convert = getattr(sys.modules[type(built).__module__], FILTER, None)
    if convert is None:
        return
    known = inspect.signature(convert).parameters
    yield lambda tensors: convert(tensors, built) if len(known) > 1 else convert(tensors)
    if "adapt_layer_scale" in known:  # of DeiT III
        yield lambda tensors: convert(tensors, built, adapt_layer_scale=True)


def _from_jax(tensors: State, built: nn.Module) -> State:
    """Return what timm makes of the arrays of BiT's or ViT's authors; {} if they are of a deeper model."""
    blocks = {found[0] for key in tensors if (found := JAX_BLOCK.search(key))}
    stacked = [len(value) for key, value in tensors.items() if JAX_STACK in key]
    own_blocks = sum(bool(re.search(r"\bblocks\.\d+$", name)) for name, _ in built.named_modules())
    if {len(blocks), *stacked} - {0} != {own_blocks}:
        return {}
    filled = copy.deepcopy(built)
    heads = [value.shape[-1] for key, value in tensors.items() if JAX_HEAD.search(key)]
    if len(heads) == 1:
        filled.reset_classifier(heads[0])  # type: ignore[operator]
    for own in filled.parameters():
        nn.init.constant_(own, math.nan)  # stays where the file has nothing to say
    with io.BytesIO() as file:
        arrays: Any = {key: value.numpy() for key, value in tensors.items()}
        np.savez(file, **arrays)
        file.seek(0)
        filled.load_pretrained(file)  # type: ignore[operator]
    return {key: value for key, value in filled.state_dict().items() if not value.isnan().all()}
