"""Weights in other names than the model's: of transformers, and of the authors of timm's models."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sweep.config import SourceConfig
from sweep.errors import UserError
from sweep.models import build, weights
from sweep.models.build import State
from sweep.plan import sources

pytest.importorskip("timm")

Write = Callable[[State], dict[str, Any]]


def whole(model: str, size: int, n_classes: int = 7) -> State:
    """Return all tensors of a model with a head, each of other numbers, as a library's own state_dict() has them."""
    generator = torch.Generator().manual_seed(0)
    state = build.build(model, build.random_state(model, size, 0), n_classes, size, 0).state_dict()
    return {
        key: value + torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in state.items()
    }


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    """Return tensors under the names that these substitutions give, one after the other."""
    made = {}
    for key, value in state.items():
        for pattern, name in pairs:
            key = re.sub(pattern, name, key)
        made[key] = value
    return made


def apart(state: State, joined: str, parts: str) -> State:
    """Return tensors with the matrix of each attention in three, as transformers has it; {} is one of these."""
    made: State = {}
    for key, value in state.items():
        match = re.fullmatch(joined, key)
        if match is None:
            made[key] = value
            continue
        for word, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
            made[match.expand(parts).replace("{}", word)] = part.clone()
    return made


def under(prefix: str, state: State, head: str = "classifier.") -> State:
    return {key if key.startswith(head) else f"{prefix}.{key}": value for key, value in state.items()}


def vit(state: State) -> State:
    layer = r"encoder.layer.\1."
    parts = apart(state, r"blocks\.(\d+)\.attn\.qkv\.(\w+)", rf"{layer}attention.attention.{{}}.\2")
    return under(
        "vit",
        renamed(
            parts,
            (r"^cls_token", "embeddings.cls_token"),
            (r"^pos_embed", "embeddings.position_embeddings"),
            (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
            (r"^blocks\.(\d+)\.attn\.proj", f"{layer}attention.output.dense"),
            (r"^blocks\.(\d+)\.mlp\.fc1", f"{layer}intermediate.dense"),
            (r"^blocks\.(\d+)\.mlp\.fc2", f"{layer}output.dense"),
            (r"^blocks\.(\d+)\.norm1", f"{layer}layernorm_before"),
            (r"^blocks\.(\d+)\.norm2", f"{layer}layernorm_after"),
            (r"^norm", "layernorm"),
            (r"^head", "classifier"),
        ),
    )


def beit(state: State) -> State:
    layer = r"encoder.layer.\1."
    parts = apart(state, r"blocks\.(\d+)\.attn\.qkv\.(weight)", rf"{layer}attention.attention.{{}}.\2")
    named = renamed(
        parts,
        (r"^blocks\.(\d+)\.attn\.q_bias", f"{layer}attention.attention.query.bias"),
        (r"^blocks\.(\d+)\.attn\.v_bias", f"{layer}attention.attention.value.bias"),
        (r"^blocks\.(\d+)\.attn\.relative", f"{layer}attention.attention.relative_position_bias.relative"),
        (r"^blocks\.(\d+)\.gamma_(\d)", rf"{layer}lambda_\2"),
        (r"^fc_norm", "pooler.layernorm"),
    )
    return {key.replace("vit.", "beit.", 1): value for key, value in vit(named).items()}


def dinov2(state: State) -> State:
    layer = r"encoder.layer.\1."
    named = renamed(
        state,
        (r"^blocks\.(\d+)\.ls(\d)\.gamma", rf"{layer}layer_scale\2.lambda1"),
        (r"^blocks\.(\d+)\.mlp", f"{layer}mlp"),
        (r"^blocks\.(\d+)\.norm(\d)", rf"{layer}norm\2"),
    )
    made = {key.replace("vit.", "dinov2.", 1): value for key, value in vit(named).items()}
    made["classifier.weight"] = made["classifier.weight"].repeat(1, 2)  # of the token and of the mean over patches
    return made | {"dinov2.embeddings.mask_token": torch.zeros(1, 384)}


def swin(state: State) -> State:
    block = r"encoder.layers.\1.blocks.\2."
    parts = apart(state, r"layers\.(\d+)\.blocks\.(\d+)\.attn\.qkv\.(\w+)", rf"{block}attention.self.{{}}.\3")
    named = renamed(
        parts,
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^patch_embed\.norm", "embeddings.norm"),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.attn\.relative", f"{block}attention.self.relative"),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.attn\.proj", f"{block}attention.output.dense"),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc1", f"{block}intermediate.dense"),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc2", f"{block}output.dense"),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.norm1", f"{block}layernorm_before"),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.norm2", f"{block}layernorm_after"),
        *((rf"^layers\.{number + 1}\.downsample", f"encoder.layers.{number}.downsample") for number in range(3)),
        (r"^norm", "layernorm"),
        (r"^head\.fc", "classifier"),
    )
    return under("swin", named)


def convnext(state: State) -> State:
    layer = r"encoder.stages.\1.layers.\2."
    named = renamed(
        state,
        (r"^stem\.0", "embeddings.patch_embeddings"),
        (r"^stem\.1", "embeddings.layernorm"),
        (r"^stages\.(\d+)\.downsample", r"encoder.stages.\1.downsampling_layer"),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.conv_dw", f"{layer}dwconv"),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.norm", f"{layer}layernorm"),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc", f"{layer}pwconv"),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.mlp\.grn", f"{layer}grn"),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.gamma", f"{layer}layer_scale_parameter"),
        (r"^head\.norm", "layernorm"),
        (r"^head\.fc", "classifier"),
    )
    shaped = {key: value[:, :, 0, 0] if "pwconv" in key and value.dim() == 4 else value for key, value in named.items()}
    shaped = {key: value[None, None, None] if ".grn." in key else value for key, value in shaped.items()}
    return under("convnextv2" if any(".grn." in key for key in shaped) else "convnext", shaped)


def resnet(state: State) -> State:
    named = renamed(
        state,
        (r"^conv1", "embedder.embedder.convolution"),
        (r"^bn1", "embedder.embedder.normalization"),
        *((rf"^layer{number + 1}\.(\d+)\.", rf"encoder.stages.{number}.layers.\1.") for number in range(4)),
        (r"downsample\.0", "shortcut.convolution"),
        (r"downsample\.1", "shortcut.normalization"),
        *((rf"\.conv{number + 1}\.", f".layer.{number}.convolution.") for number in range(3)),
        (r"(layers\.\d+)\.bn(\d)\.", lambda match: f"{match[1]}.layer.{int(match[2]) - 1}.normalization."),  # type: ignore[arg-type]
        (r"^fc", "classifier.1"),
    )
    return under("resnet", named)


def same(loaded: weights.Weights, state: State, head: str) -> None:
    backbone = {key: value for key, value in state.items() if not key.startswith(head)}
    assert loaded.state.keys() == backbone.keys()
    assert all(torch.equal(loaded.state[key], backbone[key]) for key in backbone)


@pytest.mark.parametrize(
    ("model", "size", "head", "write"),
    [
        ("timm/convnextv2_atto", 64, "head.fc.", convnext),
        ("resnet18", 32, "fc.", resnet),
        pytest.param("timm/vit_tiny_patch16_224", 224, "head.", vit, marks=pytest.mark.slow),
        pytest.param("timm/beit_base_patch16_224", 224, "head.", beit, marks=pytest.mark.slow),
        pytest.param("timm/vit_small_patch14_dinov2", 518, "head.", dinov2, marks=pytest.mark.slow),
        pytest.param("timm/swin_tiny_patch4_window7_224", 224, "head.fc.", swin, marks=pytest.mark.slow),
    ],
)
def test_names_of_transformers_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, size: int, head: str, write: Write
) -> None:
    state = whole(model, size)
    written = write(state)
    save_file({key: value.contiguous() for key, value in written.items()}, tmp_path / "model.safetensors")
    loaded = weights.checkpoint(tmp_path, model, size)
    same(loaded, state, head)
    assert "names of the transformers library" in capsys.readouterr().out
    found = sources.resolve(SourceConfig("checkpoint", path=str(tmp_path), image_size=size), model)
    assert found.n_classes == 7
    torch.save({f"model.{key}": value for key, value in written.items()}, tmp_path / "wrapped.pth")
    same(weights.checkpoint(tmp_path / "wrapped.pth", model, size), state, head)
    base = {key.partition(".")[2]: value for key, value in written.items() if not key.startswith("classifier")}
    torch.save(base, tmp_path / "base.bin")
    same(weights.checkpoint(tmp_path / "base.bin", model, size), state, head)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "size", "write"),
    [
        ("swin_t", "timm/swin_tiny_patch4_window7_224", 224, swin),
        ("convnext_tiny", "timm/convnext_tiny", 64, convnext),
        ("vit_b_16", "timm/vit_base_patch16_224", 224, vit),
    ],
)
def test_torchvisions_models_read_them_as_timms_do(
    tmp_path: Path, ours: str, theirs: str, size: int, write: Write
) -> None:
    torch.save(write(whole(theirs, size)), tmp_path / "a.bin")
    images = torch.rand(2, 3, size, size)
    made = []
    for model in (ours, theirs):
        loaded = weights.checkpoint(tmp_path / "a.bin", model, size)
        assert loaded.head is not None
        network = build.build(model, loaded.state, 7, size, head_seed=0)
        layer = network.get_submodule({"vit_b_16": "heads.head", "convnext_tiny": "classifier.2"}.get(model, "head"))
        (layer if hasattr(layer, "weight") else layer.fc).load_state_dict(loaded.head)  # type: ignore[union-attr]
        made.append(network.eval()(images))
    torch.testing.assert_close(*made, rtol=1e-3, atol=1e-3)


def facebooks(state: State) -> dict[str, Any]:
    named = renamed(
        state,
        (r"^stem", "downsample_layers.0"),
        (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.\2."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"mlp\.grn\.weight", "grn.gamma"),
        (r"mlp\.grn\.bias", "grn.beta"),
        (r"^head\.norm", "norm"),
        (r"^head\.fc", "head"),
    )
    return {
        "model": {
            key: value[:, :, 0, 0] if "pwconv" in key and value.dim() == 4 else value for key, value in named.items()
        }
    }


def microsofts(state: State) -> dict[str, Any]:
    named = renamed(
        state,
        *((rf"^layers\.{number + 1}\.downsample", f"layers.{number}.downsample") for number in range(3)),
        (r"^head\.fc", "head"),
    )
    extra = {f"layers.0.blocks.{place}.attn.relative_position_index": torch.zeros(49, 49).long() for place in (0, 1)}
    return {"model": named | extra | {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}}


def deit_iii(state: State) -> dict[str, Any]:
    return {"model": renamed(state, (r"ls(\d)\.gamma", r"gamma_\1"))}


@pytest.mark.parametrize(
    ("model", "size", "head", "write"),
    [
        ("timm/convnextv2_atto", 64, "head.fc.", facebooks),
        pytest.param("timm/swin_tiny_patch4_window7_224", 224, "head.fc.", microsofts, marks=pytest.mark.slow),
        pytest.param("timm/deit3_small_patch16_224", 224, "head.", deit_iii, marks=pytest.mark.slow),
    ],
)
def test_files_of_the_authors_are_read_as_timm_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, size: int, head: str, write: Write
) -> None:
    state = whole(model, size)
    torch.save(write(state), tmp_path / "a.pth")
    same(weights.checkpoint(tmp_path / "a.pth", model, size), state, head)
    assert "names of its authors, as timm reads them" in capsys.readouterr().out


def last_first(value: Tensor) -> Tensor:
    """Return a convolution as JAX has it, with its sides first, or a matrix turned."""
    return value.permute(2, 3, 1, 0) if value.dim() == 4 else value.T if value.dim() == 2 else value


def bit(state: State) -> State:
    named = renamed(
        state,
        (r"^stem\.conv\.weight", "root_block/standardized_conv2d/kernel"),
        (r"^norm", "group_norm"),
        (r"^head\.fc\.weight", "head/conv2d/kernel"),
        (r"^head\.fc\.bias", "head/conv2d/bias"),
        (r"^stages\.(\d)\.blocks\.(\d)\.", lambda match: f"block{int(match[1]) + 1}/unit{int(match[2]) + 1:02d}/"),  # type: ignore[arg-type]
        (r"downsample\.conv\.weight", "a/proj/standardized_conv2d/kernel"),
        *((rf"conv{number}\.weight", f"{part}/standardized_conv2d/kernel") for number, part in enumerate("abc", 1)),
        *((rf"norm{number}\.", f"{part}/group_norm.") for number, part in enumerate("abc", 1)),
        (r"\.weight", "/gamma"),
        (r"\.bias", "/beta"),
    )
    return {f"resnet/{key}": last_first(value) for key, value in named.items()}


def vit_of_jax(state: State) -> State:
    layer, inner = r"Transformer/encoderblock_\1/", "MultiHeadDotProductAttention_1"
    parts = apart(state, r"blocks\.(\d+)\.attn\.qkv\.(\w+)", rf"{layer}{inner}/{{}}.\2")
    named = renamed(
        parts,
        (r"^cls_token", "cls"),
        (r"^pos_embed", "Transformer/posembed_input/pos_embedding"),
        (r"^patch_embed\.proj", "embedding"),
        (r"^norm", "Transformer/encoder_norm"),
        (r"^blocks\.(\d+)\.attn\.proj", rf"{layer}{inner}/out"),
        (r"^blocks\.(\d+)\.norm1", f"{layer}LayerNorm_0"),
        (r"^blocks\.(\d+)\.norm2", f"{layer}LayerNorm_2"),
        (r"^blocks\.(\d+)\.mlp\.fc1", f"{layer}MlpBlock_3/Dense_0"),
        (r"^blocks\.(\d+)\.mlp\.fc2", f"{layer}MlpBlock_3/Dense_1"),
        (r"(LayerNorm_\d|encoder_norm)\.weight", r"\1/scale"),
        (r"\.weight", "/kernel"),
        (r"\.bias", "/bias"),
    )
    made = {key: last_first(value) for key, value in named.items()}
    for key, value in made.items():
        if inner in key:  # three heads of 64
            split = (3, 64)
            shape = (*split, 192) if "/out/k" in key else (192, *split) if key.endswith("kernel") else split
            made[key] = value if key.endswith("out/bias") else value.reshape(shape)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "head", "write"),
    [
        ("timm/resnetv2_50x1_bit", 64, "head.fc.", bit),
        ("timm/vit_tiny_patch16_224", 224, "head.", vit_of_jax),
    ],
)
def test_arrays_of_the_authors_are_read_as_timm_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, size: int, head: str, write: Write
) -> None:
    state = whole(model, size)
    arrays = {key: value.contiguous().numpy() for key, value in write(state).items()}
    np.savez(tmp_path / "a.npz", **arrays)
    same(weights.checkpoint(tmp_path / "a.npz", model, size), state, head)
    found = sources.resolve(SourceConfig("checkpoint", path=str(tmp_path / "a.npz"), image_size=size), model)
    assert found.n_classes == 7
    assert "names of its authors, as timm reads them" in capsys.readouterr().out
    deeper = {key.replace("/unit03", "/unit33").replace("block_3", "block_33"): each for key, each in arrays.items()}
    np.savez(tmp_path / "deeper.npz", **arrays, **{key: deeper[key] for key in deeper.keys() - arrays.keys()})
    with pytest.raises(UserError, match="another architecture"):
        weights.checkpoint(tmp_path / "deeper.npz", model, size)


@pytest.mark.parametrize(
    ("key", "model", "advice"),
    [
        ("vit.encoder.layer.0.attention.attention.query.weight", "resnet18", r"a vit of .*model\.name=vit_\* of its"),
        ("deit.encoder.layer.0.attention.attention.query.weight", "vit_b_16", r"a deit of .*deit_\*_distilled_\*"),
        ("resnet.embedder.embedder.convolution.weight", "resnet34", r"a resnet of .*model\.name=resnet\* of its size"),
        (
            "mobilenet_v2.conv_stem.first_conv.convolution.weight",
            "mobilenet_v2",
            r"a mobilenet_v2 of .*pads images .*mobilenetv2_100",
        ),
    ],
)
def test_what_does_not_fit_says_which_model_does(tmp_path: Path, key: str, model: str, advice: str) -> None:
    torch.save({key: torch.zeros(4, 4)}, tmp_path / "a.bin")
    with pytest.raises(UserError, match=rf"does not fit {model}: it is {advice}") as caught:
        weights.checkpoint(tmp_path / "a.bin", model, 224)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
def test_blocks_in_chunks_are_read_as_the_models(tmp_path: Path, prefix: str) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("vit_tiny_patch16_224").state_dict()
    chunked = {re.sub(r"^blocks\.(\d+)", lambda n: f"blocks.{int(n[1]) // 4}.{n[1]}", key): state[key] for key in state}
    torch.save({f"{prefix}{key}": value for key, value in chunked.items()}, tmp_path / "chunks.pth")
    found = weights.checkpoint(tmp_path / "chunks.pth", "timm/vit_tiny_patch16_224", 224)
    assert torch.equal(found.state["blocks.9.attn.qkv.weight"], state["blocks.9.attn.qkv.weight"])
    assert torch.equal(found.state["blocks.0.norm1.bias"], state["blocks.0.norm1.bias"])
