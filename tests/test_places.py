"""Where the weights of a model lie in files as other people's tools write them."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from sweep.config import SourceConfig, as_first_named
from sweep.errors import UserError
from sweep.models import build, weights
from sweep.models.build import State
from sweep.plan import sources

MODELS = ("resnet18", "mobilenet_v2", "densenet121", "vit_b_16")
PREFIXES = (
    *("encoder.", "model.backbone.", "_orig_mod.", "module.", "module.module.", "module._orig_mod.", "net.", "resnet."),
    *("_fsdp_wrapped_module.", "online_encoder.net.", "feature_extractor.", "backbone.0.", "module.encoder_q.", "vit."),
    *("student.backbone.", "momentum_encoder.", "base_encoder.", "model.", "trunk.model.encoder.module."),
)
WRAPPERS = (
    *("state_dict", "model", "net", "weights", "params", "network", "module", "teacher", "student", "model_ema"),
    *("state_dict_ema", "ema", "ema_state_dict", "model_state_dict", "model_state", "weights.best", "a.b.c.d"),
)


@functools.cache
def random_state(model: str) -> State:
    """Return a whole checkpoint of the library's model, head included, not what the model starts from here."""
    with torch.device("meta"):
        shapes = getattr(torchvision.models, model)().state_dict()
    random = torch.Generator().manual_seed(7)
    return {key: torch.rand(each.shape, generator=random).to(each.dtype) for key, each in shapes.items()}


drawn = functools.cache(build.random_state)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw each model's own weights once."""
    monkeypatch.setattr(build, "random_state", drawn)


def wrapped(wrapper: str, content: dict[str, Any]) -> dict[str, Any]:
    for name in reversed(wrapper.split(".")):
        content = {name: content}
    return {"epoch": 3, **content}


def fit(found: dict[str, Any], model: str = "resnet18", **settings: Any) -> weights.Weights:
    return weights.fit_to_model(found, model, 224, "file", **settings)


def same(loaded: State, state: State, model: str) -> None:
    backbone = {key: state[key] for key in drawn(model, 224, seed=0)}
    assert loaded.keys() == backbone.keys()
    assert all(torch.equal(loaded[key], backbone[key]) for key in backbone)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_found_and_said(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = random_state("resnet18")
    found = fit({"state_dict": {f"{prefix}{key}": value for key, value in state.items()}})
    same(found.state, state, "resnet18")
    assert found.head is not None
    assert torch.equal(found.head["weight"], state["fc.weight"])
    said = f"file: state_dict, prefix {prefix}: 120 tensors loaded, 2 skipped (fc.bias, fc.weight), 0 missing\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_any_dictionary_is_found_and_said(wrapper: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = random_state("resnet18")
    same(fit(wrapped(wrapper, state)).state, state, "resnet18")
    assert f"file: {wrapper}: 120 tensors loaded" in capsys.readouterr().out


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("prefix", ["model.backbone.0."])
def test_prefixes_of_every_architecture(model: str, prefix: str) -> None:
    state = random_state(model)
    same(fit({f"{prefix}{key}": value for key, value in state.items()}, model).state, state, model)


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "resnet50"])
@pytest.mark.parametrize("prefix", ["", "module.f."])
def test_numbered_children(model: str, prefix: str) -> None:
    with torch.device("meta"):
        whole = getattr(torchvision.models, model)()
    whole.load_state_dict(random_state(model), assign=True)
    sequence = nn.Sequential(*list(whole.children())[:-1])
    found = {f"{prefix}{key}": value for key, value in sequence.state_dict().items()}
    same(fit(found, model).state, random_state(model), model)


def test_numbered_children_without_the_first_pooling() -> None:
    whole = torchvision.models.resnet18()
    whole.load_state_dict(random_state("resnet18"))
    kept = [layer for layer in whole.children() if not isinstance(layer, nn.MaxPool2d | nn.Linear)]
    same(fit({f"f.{key}": value for key, value in nn.Sequential(*kept).state_dict().items()}).state,
         random_state("resnet18"), "resnet18")  # fmt: skip


@pytest.mark.parametrize("model", ["mobilenet_v2", "densenet121"])
def test_the_features_alone(model: str) -> None:
    state = random_state(model)
    alone = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    same(fit(wrapped("model", alone), model).state, state, model)


def test_a_head_beside_the_backbone_comes_along() -> None:
    state = random_state("resnet18")
    found = {f"module.{'' if key.startswith('fc') else 'backbone.'}{key}": value for key, value in state.items()}
    head = fit(found).head
    assert head is not None
    assert torch.equal(head["bias"], state["fc.bias"])


PAIRS = [
    ("", "state_dict.net", "state_dict_ema", "state_dict_ema"),
    ("", "state_dict", "ema", "ema"),
    ("", "model", "model_ema", "model_ema"),
    ("", "student", "teacher", "teacher"),
    ("", "student.backbone", "teacher.backbone", "teacher.backbone"),
    ("state_dict", "module.encoder_q", "module.encoder_k", "module.encoder_q"),
    ("state_dict", "module.base_encoder", "module.momentum_encoder", "module.base_encoder"),
    ("", "online_encoder.net", "target_encoder.net", "online_encoder.net"),
    ("state_dict", "backbone", "momentum_backbone", "backbone"),
    ("model", "model_online", "model_target", "model_online"),
    ("", "model", "best_model", "model"),
]


@pytest.mark.parametrize(("outer", "first", "second", "expected"), PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_copies_one_is_taken_by_rule_and_said(
    outer: str, first: str, second: str, expected: str, turned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    state = random_state("resnet18")
    copies = {first: state, second: {key: value * 3 for key, value in state.items()}}
    order = [second, first] if turned and first != "model" else [first, second]
    found: dict[str, Any] = {f"{name}.{key}": value for name in order for key, value in copies[name].items()}
    if outer:
        found = {outer: found}
    other = second if expected == first else first
    same(fit(found).state, copies[expected], "resnet18")
    said = capsys.readouterr().out
    assert f"prefix {expected}.: 120 tensors loaded" in said
    assert f"not {outer + '.' if outer else ''}{other}, see source.key" in said
    for key in (first, second):
        same(fit(found, key=key).state, copies[key], "resnet18")
    with pytest.raises(UserError, match=r"source.key=elsewhere: file has no such weights of resnet18; it has .*, "):
        fit(found, key="elsewhere")


def test_a_whole_copy_comes_before_a_better_name() -> None:
    state = random_state("resnet18")
    part = {key: value for key, value in state.items() if not key.startswith("layer4")}
    same(fit({"ema": part, "model": state}).state, state, "resnet18")


def test_a_chosen_copy_names_other_weights_and_none_chosen_changes_no_name(tmp_path: Path) -> None:
    torch.save({"ema": {}}, tmp_path / "a.pth")
    found = [
        sources.resolve(SourceConfig("checkpoint", path=str(tmp_path / "a.pth"), key=key), "resnet18").key
        for key in (None, "ema", "model")
    ]
    assert len(set(found)) == 3
    assert as_first_named({"source": {"path": "a", "key": None}}) == {"source": {"path": "a"}}


@pytest.mark.parametrize(
    ("file", "model"), [("resnet34", "resnet18"), ("densenet169", "densenet121"), ("resnet50", "resnet18")]
)
def test_a_deeper_architecture_is_refused(file: str, model: str) -> None:
    with torch.device("meta"):
        found = getattr(torchvision.models, file)().state_dict()  # refused by names, before any number is looked at
    with pytest.raises(UserError, match=rf"blocks that {model} has not .*use the model that it was saved from"):
        fit({f"module.{key}": value for key, value in found.items()}, model)


def test_more_transformer_blocks_are_refused() -> None:
    state = random_state("vit_b_16")
    deeper = {key.replace("layer_11", "layer_12"): value for key, value in state.items() if "layer_11" in key}
    with pytest.raises(UserError, match=r"has tensors of blocks that vit_b_16 has not .*encoder_layer_12"):
        fit(state | deeper, "vit_b_16")


@pytest.mark.parametrize(
    "extra", ["fc.0.weight", "head.mlp.2.bias", "projector.0.weight", "queue", "predictor.fc1.bias"]
)
def test_other_heads_are_left_out(extra: str) -> None:
    state = random_state("resnet18")
    same(fit({**state, extra: torch.zeros(3)}).state, state, "resnet18")


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        ("resnet18", "layer1.0.se.fc1.weight"),
        ("resnet18", "layer4.1.attn.conv.weight"),
        ("resnet18", "layer2.0.conv1.lora_A"),
        ("resnet18", "layer1.0.ls.gamma"),
        ("mobilenet_v2", "features.3.se.fc.weight"),
        ("densenet121", "features.denseblock1.attention.weight"),
        ("vit_b_16", "encoder.layers.encoder_layer_3.ls1.gamma"),
        ("vit_b_16", "encoder.layers.encoder_layer_0.self_attention.q_norm.weight"),
        ("vit_b_16", "register_tokens"),
        ("vit_b_16", "norm_pre.weight"),
        ("vit_b_16", "rope.freqs"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.encoder."])
def test_tensors_inside_the_layers_that_the_model_has_not_are_refused(model: str, extra: str, prefix: str) -> None:
    state = {**random_state(model), extra: torch.ones(3)}
    with pytest.raises(UserError, match=rf"file: has {extra} inside the layers of {model}, which has none; ") as caught:
        fit({f"{prefix}{key}": value for key, value in state.items()}, model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        ("resnet18", "layer1.0.total_ops"),
        ("resnet18", "layer1.0.conv1.bias"),  # of zeros
        ("resnet18", "metrics.accuracy.correct"),
        ("resnet18", "loss.weight"),
        ("resnet18", "decoder.layer1.0.se.weight"),
        ("resnet18", "cls_token"),
        ("mobilenet_v2", "aux.3.conv.9.weight"),
        ("vit_b_16", "mask_token"),
        ("vit_b_16", "encoder.layers.encoder_layer_3.attn_mask"),
        ("vit_b_16", "decoder_blocks.0.attn.qkv.weight"),
        ("vit_b_16", "heads.mlp.0.weight"),
        ("vit_b_16", "fc_norm.weight"),
    ],
)
def test_what_a_training_leaves_beside_the_layers_is_left_out(model: str, extra: str) -> None:
    state = random_state(model)
    value = torch.zeros(3) if extra.endswith("bias") else torch.ones(3)
    same(fit({f"net.{key}": each for key, each in {**state, extra: value}.items()}, model).state, state, model)


@pytest.mark.parametrize("absent", ["encoder.ln.weight", "encoder.layers.encoder_layer_3.ln_1.bias", "class_token"])
def test_no_parameter_of_a_transformer_stays_random(absent: str) -> None:
    state = {key: value for key, value in random_state("vit_b_16").items() if key != absent}
    with pytest.raises(UserError, match=f"file: lacks {absent} of vit_b_16, which would stay random"):
        fit(state, "vit_b_16")


def test_a_last_normalisation_that_is_not_there_is_a_warning() -> None:
    state = random_state("vit_b_16")
    found = fit({key: value for key, value in state.items() if not key.startswith("encoder.ln.")}, "vit_b_16")
    assert found.notes[0].startswith("warning: file: lacks encoder.ln.weight, encoder.ln.bias: the last normalisation")
    same(found.state, {**state, "encoder.ln.weight": torch.ones(768), "encoder.ln.bias": torch.zeros(768)}, "vit_b_16")


def parameters_of(state: State) -> State:
    return {key: value for key, value in state.items() if "running_" not in key and "tracked" not in key}


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "densenet121"])
@pytest.mark.parametrize(("plain", "averaged"), [("state_dict", "ema_state_dict"), ("model", "swa"), ("net", "ema")])
@pytest.mark.parametrize("flat", [False, True])
def test_an_average_of_parameters_alone_gets_the_statistics_of_the_plain_copy(
    model: str, plain: str, averaged: str, flat: bool
) -> None:
    state = random_state(model)
    average = {key: value + 1 for key, value in parameters_of(state).items()}
    copies = {plain: state, averaged: average}
    flattened = {f"{name}.{key}": value for name, each in copies.items() for key, value in each.items()}
    for key in (None, averaged):
        found = fit({"model_states": flattened} if flat else copies, model, key=key)
        same(found.state, state | average, model)
        assert any(
            "parameters alone; its statistics of batch normalisation are those of" in each for each in found.notes
        )


@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize("flat", [False, True])
def test_an_average_in_names_without_dots_is_said_to_be_left_out(prefix: str, flat: bool) -> None:
    state = random_state("resnet18")
    average = {f"{prefix}{key}".replace(".", ""): value + 1 for key, value in parameters_of(state).items()}
    plain = {f"{prefix}{key}": value for key, value in state.items()}
    flattened = plain | {f"model_ema.{key}": value for key, value in average.items()}
    found = fit({"state_dict": flattened} if flat else {"state_dict": plain, "model_ema": average})
    same(found.state, state, "resnet18")
    assert any("model_ema left out: its names have no dots" in each for each in found.notes)


@pytest.mark.parametrize("key", ["bn1.running_var", "layer3.0.bn1.running_var"])
def test_a_negative_variance_is_refused(key: str) -> None:
    state = random_state("resnet18")
    with pytest.raises(UserError, match=f"file: {key} is negative: no variance"):
        fit(state | {key: state[key] - 2})


@pytest.mark.parametrize("key", ["fc.weight", "fc.bias"])
def test_a_head_of_no_numbers_is_left_out(key: str) -> None:
    state = random_state("resnet18")
    found = fit(state | {key: torch.full_like(state[key], torch.nan)})
    same(found.state, state, "resnet18")
    assert found.head is None
    assert "file: its own classifier holds NaN or infinite numbers, and is left out" in found.notes


@pytest.mark.parametrize("extra", ["layer3.7.conv1.weight", "layer1.0.se.fc1.weight"])
def test_a_copy_of_this_architecture_comes_before_a_larger_one(extra: str) -> None:
    student = random_state("resnet18")
    teacher = {key: value + 1 for key, value in student.items()} | {extra: torch.ones(3)}
    same(fit({"teacher": teacher, "student": student}).state, student, "resnet18")


@pytest.mark.parametrize("beside", ["queue", "encoder_k"])
@pytest.mark.parametrize("head", ["fc", "fc.2"])
def test_what_moco_compares_by_is_no_classifier(beside: str, head: str, tmp_path: Path) -> None:
    body = {key: value for key, value in random_state("resnet18").items() if not key.startswith("fc.")}
    query = body | {f"{head}.weight": torch.ones(128, 512), f"{head}.bias": torch.ones(128)}
    content = {f"module.encoder_q.{key}": value for key, value in query.items()}
    copies = {f"module.encoder_k.{key}": value for key, value in query.items()}
    content |= {"module.queue": torch.ones(128, 9)} if beside == "queue" else copies
    found = fit({"state_dict": content})
    assert found.head is None
    assert not any("classes" in each for each in found.notes)
    torch.save({"state_dict": content}, tmp_path / "a.pth")
    assert sources.resolve(SourceConfig("checkpoint", path=str(tmp_path / "a.pth")), "resnet18").n_classes == 1000


@pytest.mark.parametrize(
    "name", ["projector.2", "projection_head.0", "prototypes", "bbox_head.fc", "decoder.pred", "predictor.0"]
)
def test_matrices_of_other_tasks_are_not_taken_for_classifiers(name: str) -> None:
    body = {key: value for key, value in random_state("resnet18").items() if not key.startswith("fc.")}
    assert not any("n_classes" in each for each in fit(body | {f"{name}.weight": torch.ones(9, 512)}).notes)


def test_the_stem_of_small_images_is_refused_with_the_reason() -> None:
    state = {**random_state("resnet18"), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    with pytest.raises(
        UserError, match=r"another one: a first convolution of 3 pixels, as made for small images"
    ) as caught:
        fit({f"net.{key}": value for key, value in state.items()})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_diverged_training_are_refused(value: float) -> None:
    state = dict(random_state("resnet18"))
    state["layer3.0.bn1.running_var"] = torch.full((256,), value)
    with pytest.raises(UserError, match=r"file: layer3.0.bn1.running_var holds NaN or infinite numbers"):
        fit(state)


FIRST = {"resnet18": "conv1", "mobilenet_v2": "features.0.0", "densenet121": "features.conv0", "vit_b_16": "conv_proj"}


@pytest.mark.parametrize("model", MODELS)
def test_grey_weights_give_grey_images_the_same(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = f"{FIRST[model]}.weight"
    state = dict(random_state(model))
    state[key] = state[key][:, :1].half()
    loaded = fit({f"net.{name}": value for name, value in state.items()}, model).state
    assert f"{key} is of grey images; spread over three channels" in capsys.readouterr().out
    image = torch.rand(1, 1, 16, 16)
    grey = nn.functional.conv2d(image, state[key].float())
    torch.testing.assert_close(
        nn.functional.conv2d(image.expand(1, 3, 16, 16), loaded[key]), grey, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_absent_counts(kind: torch.dtype) -> None:
    state = {
        key: value.to(kind)
        for key, value in random_state("resnet18").items()
        if not key.endswith("num_batches_tracked")
    }
    loaded = fit(state).state
    assert all(torch.equal(loaded[key], value.float()) for key, value in state.items() if key in loaded)
    assert loaded["conv1.weight"].dtype is torch.float32


OLD: dict[str, tuple[str, Any]] = {
    "densenet121": (r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2."),
    "vit_b_16": (r"mlp\.([03])\.", lambda match: f"mlp.linear_{1 + int(match[1]) // 3}."),
}


@pytest.mark.parametrize("model", OLD)
@pytest.mark.parametrize("prefix", ["module.backbone."])
def test_old_names_of_published_files(model: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, new = OLD[model]
    state = random_state(model)
    old = {re.sub(pattern, new, key): value for key, value in state.items() if "tracked" not in key}
    assert len(old.keys() - state.keys()) > 40
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(old))
    theirs = getattr(torchvision.models, model)(weights="DEFAULT").state_dict()  # by torchvision's own loading
    same(fit({f"{prefix}{key}": value for key, value in old.items()}, model).state, theirs, model)
