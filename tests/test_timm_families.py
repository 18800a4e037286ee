"""Models of every family of timm's, cut: frozen blocks and the rest are the whole model."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.compatibility import TIMM
from sweep.config import BatchNorm, Unit
from sweep.models import __main__ as command
from sweep.models import build, cards
from sweep.models.cuts import packing
from sweep.models.frozen import Network, Normalize, channels_last
from sweep.plan import catalog

timm = pytest.importorskip("timm")
PLAIN = Normalize([0.0] * 3, [1 / 255] * 3)  # uint8 to float, values unchanged

# Stages and parts, counted by hand in timm's source.
COUNTS = {
    "cait_xxs24_224": (
        25,
        25,
    ),  # 24 blocks after the patches; those of the class token, which take two tensors, in the last
    "deit_tiny_distilled_patch16_224": (13, 13),  # two heads, of the two tokens
    "eva02_tiny_patch14_224": (13, 13),  # rotary positions; no head of its own
    "ghostnet_050": (11, 18),  # dropout is a function in its forward pass
    "poolformer_s12": (16, 16),  # not grouped by timm: stem, 2, 2, 6, 2 blocks, and 3 downsamplings
    "resnetv2_18": (5, 9),  # a convolution for a head
    "test_vit": (7, 7),  # decides by shapes
    "tnt_s_legacy_patch16_224": (13, 13),  # two tensors pass
}


def least_size(name: str) -> int:
    """Return the smallest usual image size that a model takes, in pixels."""
    native = catalog.card(name).preset.image_size
    sizes = (64, 96, 112, 128, 160, 192, 224)
    return next((size for size in sizes if size < native and cards.make(name, size).refused is None), native)


def built(name: str, size: int) -> nn.Module:
    """Return the model with weights that hide no block: layers that begin with zeros get others."""
    state = build.random_state(name, size, seed=0)
    noise = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if value.is_floating_point() and "running" not in key:
            value.add_(torch.randn(value.shape, generator=noise) * 0.03)
    return build.build(name, state, 5, size, head_seed=0).eval()


def check_every_block(name: str, size: int) -> tuple[int, int]:
    """Compare the model with its blocks, one after the other; return how many stages and parts it has."""
    model = built(name, size)
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stages, _ = build.blocks(model, name, Unit.stage, size)
    parts, head = build.blocks(model, name, Unit.block, size)
    x = channels_last(PLAIN(images))
    with torch.no_grad():
        whole = model(x.clone())
        assert whole.shape == (3, 5)
        assert not torch.equal(whole[0], whole[1])
        for part in parts:
            given = x.clone()
            out: Tensor = part(x)
            assert torch.equal(x, given), "a block that writes into its input spoils features that others share"
            assert len(out) == 3
            x = out
        torch.testing.assert_close(head(x), whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    return len(stages), len(parts)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_blocks_one_after_the_other_are_the_model(name: str) -> None:
    assert check_every_block(f"timm/{name}", least_size(f"timm/{name}")) == COUNTS[name]


@pytest.mark.marathon
@pytest.mark.parametrize("name", TIMM)
def test_every_family_is_its_blocks(name: str) -> None:
    _, parts = check_every_block(f"timm/{name}", least_size(f"timm/{name}"))
    assert parts >= 2


def test_the_sample_has_one_architecture_of_every_module_of_timms() -> None:
    modules = {timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    assert {timm.models.model_entrypoint(name).__module__ for name in TIMM} == modules


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["eva02_tiny_patch14_224", "tnt_s_legacy_patch16_224", "deit_tiny_distilled_patch16_224"]
)
def test_training_of_a_suffix_moves_it_alone(name: str) -> None:
    size = least_size(f"timm/{name}")
    model = built(f"timm/{name}", size)
    parts, head = build.blocks(model, f"timm/{name}", Unit.stage, size)
    network = Network(PLAIN, parts, head, len(parts) - 1, BatchNorm.frozen).train()
    network(torch.zeros(2, 3, size, size, dtype=torch.uint8)).sum().backward()
    moved = {path for path, each in model.named_parameters() if each.grad is not None}
    ours = {id(each) for part in (parts[-1], head) for each in part.parameters()}
    assert moved
    assert moved <= {path for path, each in model.named_parameters() if id(each) in ours}


@pytest.mark.slow
def test_dropout_that_is_a_function_follows_the_mode() -> None:
    parts, _ = build.blocks(built("timm/ghostnet_050", 64), "timm/ghostnet_050", Unit.block, 64)
    (layer,) = (layer for layer in parts[-1].modules() if isinstance(layer, nn.Dropout))
    assert layer.p == 0.2
    for mode in (True, False):
        assert parts[-1].train(mode)
        assert layer.training is mode


def test_packed_tensors_come_out_as_they_went_in() -> None:
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(0))
    values: list[Any] = [draw(2, 3), [draw(6, 4, 5), draw(2, 7)]]
    forms: list[Any] = [packing.form(each, 2) for each in values]
    assert forms == [(1, 3), [(3, 4, 5), (1, 7)]]
    packed = packing.pack(values, forms)
    assert packed.shape == (2, 3 + 60 + 7)
    first, (second, third) = packing.unpack(packed, forms)
    assert torch.equal(first, values[0])
    assert torch.equal(second, values[1][0])
    assert torch.equal(third, values[1][1])
    # a row is an image: what comes of one does not depend on the others
    assert torch.equal(packing.unpack(packed[1:], forms)[1][0], values[1][0][3:])


@pytest.mark.parametrize("value", [torch.zeros(2, 3, dtype=torch.int64), torch.zeros(()), 3, [], torch.zeros(3, 2)])
def test_what_cannot_be_packed_has_no_form(value: object) -> None:
    assert packing.form(value, 2) is None


def test_all_models_of_a_pattern_are_printed_with_what_came_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--all", "timm/test_r*"])
    lines = capsys.readouterr().out.splitlines()
    assert "timm/test_resnet  5 blocks, 5 with freeze=block" in lines
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} can be cut"
    command.main(["--all", "timm/qwen3_vit_88m_enc"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "timm/qwen3_vit_88m_enc  has no layer that gives one number per class: no head",
        "0 of 1 can be cut",
    ]
    with pytest.raises(SystemExit):
        command.main(["--all", "resnet99"])
    assert capsys.readouterr().err == (
        "error: --all resnet99: no model has such a name; use * for any letters, such as '*resnet*'\n"
    )
