"""Weights of Hugging Face's transformers library, under the names that timm and torchvision have for the same tensors.

The library keeps query, key and value of attention apart, where the others have one matrix; the rest is names.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from sweep.models.spec import TIMM

State = dict[str, Tensor]
LIBRARY = "the transformers library"
_PARTS = ("query", "key", "value")  # in the order in which the others join them


class _Family(NamedTuple):
    """One architecture.

    prefix: before the names of its tensors. mark: what some of them contain. name: of timm's models of it.
    timm, torchvision: their names by regular expression, without the prefix; {i}, {j} and {k} are numbers of it,
        {before}, {odd} and {even} are 2i, 2i + 1 and 2i + 2, {next} is i + 1 and {after} k + 1. An attention's query
        stands for its key and value, too.
    """

    prefix: str
    mark: str
    name: str
    timm: dict[str, str]
    torchvision: Mapping[str, str] = MappingProxyType({})


_LAYER = r"encoder\.layer\.(?P<i>\d+)\."
_VIT = {
    r"embeddings\.cls_token$": "cls_token",
    r"embeddings\.distillation_token$": "dist_token",
    r"embeddings\.position_embeddings$": "pos_embed",
    r"embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    _LAYER + r"attention\.attention\.query": "blocks.{i}.attn.qkv",
    _LAYER + r"attention\.attention\.relative_position_bias\.": "blocks.{i}.attn.",
    _LAYER + r"attention\.output\.dense": "blocks.{i}.attn.proj",
    _LAYER + r"intermediate\.dense": "blocks.{i}.mlp.fc1",
    _LAYER + r"output\.dense": "blocks.{i}.mlp.fc2",
    _LAYER + r"mlp\.": "blocks.{i}.mlp.",
    _LAYER + r"(?:layernorm_before|norm1)": "blocks.{i}.norm1",
    _LAYER + r"(?:layernorm_after|norm2)": "blocks.{i}.norm2",
    _LAYER + r"lambda_(?P<j>\d)$": "blocks.{i}.gamma_{j}",
    _LAYER + r"layer_scale(?P<j>\d)\.lambda1$": "blocks.{i}.ls{j}.gamma",
    r"pooler\.layernorm": "fc_norm",
    r"layernorm": "norm",
    r"distillation_classifier": "head_dist",
    r"(?:cls_)?classifier": "head",
}
_VIT_OF_TORCHVISION = {
    r"embeddings\.cls_token$": "class_token",
    r"embeddings\.position_embeddings$": "encoder.pos_embedding",
    r"embeddings\.patch_embeddings\.projection": "conv_proj",
    _LAYER + r"attention\.attention\.query\.": "encoder.layers.encoder_layer_{i}.self_attention.in_proj_",
    _LAYER + r"attention\.output\.dense": "encoder.layers.encoder_layer_{i}.self_attention.out_proj",
    _LAYER + r"intermediate\.dense": "encoder.layers.encoder_layer_{i}.mlp.0",
    _LAYER + r"output\.dense": "encoder.layers.encoder_layer_{i}.mlp.3",
    _LAYER + r"layernorm_before": "encoder.layers.encoder_layer_{i}.ln_1",
    _LAYER + r"layernorm_after": "encoder.layers.encoder_layer_{i}.ln_2",
    r"layernorm": "encoder.ln",
    r"classifier": "heads.head",
}
_SWIN_LAYER = r"encoder\.layers\.(?P<i>\d+)\.blocks\.(?P<j>\d+)\."


def _swin(block: str, mlp: tuple[str, str], rest: dict[str, str]) -> dict[str, str]:
    return {
        _SWIN_LAYER + r"attention\.self\.query": f"{block}.attn.qkv",
        _SWIN_LAYER + r"attention\.self\.relative_position": f"{block}.attn.relative_position",
        _SWIN_LAYER + r"attention\.output\.dense": f"{block}.attn.proj",
        _SWIN_LAYER + r"intermediate\.dense": f"{block}.mlp.{mlp[0]}",
        _SWIN_LAYER + r"output\.dense": f"{block}.mlp.{mlp[1]}",
        _SWIN_LAYER + r"layernorm_before": f"{block}.norm1",
        _SWIN_LAYER + r"layernorm_after": f"{block}.norm2",
        **rest,
    }


_CONVNEXT_STAGE = r"encoder\.stages\.(?P<i>\d+)\."
_CONVNEXT_LAYER = _CONVNEXT_STAGE + r"layers\.(?P<j>\d+)\."
_CONVNEXT = {
    r"embeddings\.patch_embeddings": "stem.0",
    r"embeddings\.layernorm": "stem.1",
    _CONVNEXT_STAGE + r"downsampling_layer": "stages.{i}.downsample",
    _CONVNEXT_LAYER + r"dwconv": "stages.{i}.blocks.{j}.conv_dw",
    _CONVNEXT_LAYER + r"layernorm": "stages.{i}.blocks.{j}.norm",
    _CONVNEXT_LAYER + r"pwconv": "stages.{i}.blocks.{j}.mlp.fc",
    _CONVNEXT_LAYER + r"grn": "stages.{i}.blocks.{j}.mlp.grn",
    _CONVNEXT_LAYER + r"layer_scale_parameter": "stages.{i}.blocks.{j}.gamma",
    r"layernorm": "head.norm",
    r"classifier": "head.fc",
}
_CONVNEXT_OF_TORCHVISION = {
    r"embeddings\.patch_embeddings": "features.0.0",
    r"embeddings\.layernorm": "features.0.1",
    _CONVNEXT_STAGE + r"downsampling_layer": "features.{before}",
    _CONVNEXT_LAYER + r"dwconv": "features.{odd}.{j}.block.0",
    _CONVNEXT_LAYER + r"layernorm": "features.{odd}.{j}.block.2",
    _CONVNEXT_LAYER + r"pwconv1": "features.{odd}.{j}.block.3",
    _CONVNEXT_LAYER + r"pwconv2": "features.{odd}.{j}.block.5",
    _CONVNEXT_LAYER + r"layer_scale_parameter": "features.{odd}.{j}.layer_scale",
    r"layernorm": "classifier.0",
    r"classifier": "classifier.2",
}
_RESNET_LAYER = r"encoder\.stages\.(?P<i>\d+)\.layers\.(?P<j>\d+)\."
_RESNET = {
    r"embedder\.embedder\.convolution": "conv1",
    r"embedder\.embedder\.normalization": "bn1",
    _RESNET_LAYER + r"shortcut\.convolution": "layer{next}.{j}.downsample.0",
    _RESNET_LAYER + r"shortcut\.normalization": "layer{next}.{j}.downsample.1",
    _RESNET_LAYER + r"layer\.(?P<k>\d+)\.convolution": "layer{next}.{j}.conv{after}",
    _RESNET_LAYER + r"layer\.(?P<k>\d+)\.normalization": "layer{next}.{j}.bn{after}",
    r"classifier\.1": "fc",
}
_SWIN_TIMM = _swin(
    "layers.{i}.blocks.{j}",
    ("fc1", "fc2"),
    {
        r"embeddings\.patch_embeddings\.projection": "patch_embed.proj",
        r"embeddings\.norm": "patch_embed.norm",
        r"encoder\.layers\.(?P<i>\d+)\.downsample": "layers.{next}.downsample",
        r"layernorm": "norm",
        r"classifier": "head.fc",
    },
)
_SWIN_TORCHVISION = _swin(
    "features.{odd}.{j}",
    ("0", "3"),
    {
        r"embeddings\.patch_embeddings\.projection": "features.0.0",
        r"embeddings\.norm": "features.0.2",
        r"encoder\.layers\.(?P<i>\d+)\.downsample": "features.{even}",
        r"layernorm": "norm",
        r"classifier": "head",
    },
)
_FAMILIES = (
    _Family("swin", ".attention.self.relative_position_bias_table", "swin_*", _SWIN_TIMM, _SWIN_TORCHVISION),
    _Family("convnext", ".dwconv.", "convnext_*", _CONVNEXT, _CONVNEXT_OF_TORCHVISION),
    _Family("convnextv2", ".dwconv.", "convnextv2_*", _CONVNEXT),
    _Family("resnet", "embedder.embedder.convolution", "resnet*", _RESNET, _RESNET),
    _Family("vit", ".attention.attention.query.", "vit_*", _VIT, _VIT_OF_TORCHVISION),
    _Family("deit", ".attention.attention.query.", "deit_*_distilled_*", _VIT),
    _Family("beit", ".attention.attention.query.", "beit_*", _VIT),
    _Family("dinov2", ".attention.attention.query.", "vit_*_dinov2", _VIT),
)


def renamed(tensors: Mapping[str, Tensor], model: str, own: Mapping[str, Tensor]) -> State | None:
    """Return a file's tensors under the model's names; None if they are not transformers' own of a family known here.

    own: the model's tensors; one of as many numbers gets their shape.
    """
    family = _family(tensors)
    if family is None:
        return None
    table = family.timm if model.startswith(TIMM) else family.torchvision
    made = _joined({_name(key, family.prefix, table): value for key, value in tensors.items()})
    return {key: _shaped(value, own.get(key)) for key, value in made.items()}


def advice(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what to do with a file in transformers' own names that does not fit the model; None for other files."""
    family = _family(tensors)
    if family is not None:
        return f"it is a {family.prefix} of {LIBRARY}; use model=timm model.name={family.name} of its size"
    if any(key.endswith("conv_stem.first_conv.convolution.weight") for key in tensors):
        return (
            f"it is a mobilenet_v2 of {LIBRARY}, which pads images as no other MobileNetV2 does; use "
            "other weights, such as model=timm model.name=mobilenetv2_100 source=timm"
        )
    return None


def _family(tensors: Mapping[str, Tensor]) -> _Family | None:
    """Return the family that the tensors' names are of, by its prefix where there is one."""
    found = [family for family in _FAMILIES if any(family.mark in key for key in tensors)]
    named = [family for family in found if any(f".{family.prefix}." in f".{key}" for key in tensors)]
    return next(iter(named or found), None)


def _name(key: str, prefix: str, table: Mapping[str, str]) -> str:
    """Return a tensor's other name, with #0, #1 or #2 after it if it is a part of one; its own where it has none."""
    bare = re.sub(rf"^(?:.*\.)?{prefix}\.", "", key)
    part = next((number for number, each in enumerate(_PARTS) if f".{each}." in bare), None)
    if part is not None:
        bare = bare.replace(f".{_PARTS[part]}.", ".query.")
    for pattern, name in table.items():
        match = re.match(pattern, bare)
        if match:
            i, j, k = (int(match.groupdict().get(each) or 0) for each in "ijk")
            places = {"i": i, "j": j, "before": 2 * i, "odd": 2 * i + 1, "even": 2 * i + 2}
            start = name.format(**places, next=i + 1, after=k + 1)
            return f"{start}{bare[match.end() :]}{'' if part is None else f'#{part}'}"
    return key


def _joined(tensors: State) -> State:
    """Return tensors with the parts of each joined; where only the key has no bias, the others keep theirs apart."""
    whole = {key: value for key, value in tensors.items() if "#" not in key}
    for name in dict.fromkeys(key.partition("#")[0] for key in tensors if "#" in key):
        parts = [tensors.get(f"{name}#{number}") for number in range(len(_PARTS))]
        there = [part for part in parts if part is not None]
        if len(there) == len(parts):
            whole[name] = torch.cat(there)
        else:
            beside = name.removesuffix("qkv.bias")
            whole |= {
                f"{beside}{each[0]}_bias": part for each, part in zip(_PARTS, parts, strict=True) if part is not None
            }
    return whole


def _shaped(value: Tensor, own: Tensor | None) -> Tensor:
    """Return a tensor in the shape of the model's where they differ in ends of 1, or in that the model's is flat."""
    if own is None or (value.squeeze().shape != own.squeeze().shape and value.flatten().shape != own.shape):
        return value
    return value.reshape(own.shape)
