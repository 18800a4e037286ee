"""torchvision's classification models, cut between torchvision's own block classes.

One cutter serves all of them. What it must be told is in three tables: which classes are one block (BLOCKS), how a
model's blocks make up stages (STAGES), and which models have auxiliary heads (AUXILIARIES).
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torchvision
from torch import nn
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode

from sweep.errors import UserError
from sweep.models.auxiliary import WithAuxiliary
from sweep.models.cuts.graph import (
    NORMS,
    Segment,
    Tracer,
    groups_in_order,
    module,
    modules,
    segments,
    trailing_dropouts,
    weights,
)

# Classes whose instances are one block, whatever is inside them. Any other module that has modules is looked into.
BLOCKS = frozenset(
    (
        *("BasicBlock", "Bottleneck", "ResBottleneckBlock", "SimpleStemIN"),
        *("InvertedResidual", "_InvertedResidual", "MBConv", "FusedMBConv", "CNBlock", "Conv2dNormActivation"),
        *("_DenseLayer", "_Transition", "Fire", "BasicConv2d"),
        *("Inception", "InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE", "InceptionAux"),
        *("EncoderBlock", "SwinTransformerBlock", "SwinTransformerBlockV2", "PatchMerging", "PatchMergingV2"),
        "MaxVitLayer",
    )
)


class Auxiliaries(NamedTuple):
    """The heads in the middle of a model: what each of their losses counts in training.

    last: the path of the last linear layer inside such a head. least: the smallest map that it takes, in pixels.
    """

    weight: float
    last: str
    least: int


AUXILIARIES = {
    "Inception3": Auxiliaries(0.4, "fc", 17),  # as in torchvision's tutorial on fine-tuning; 299 pixels give 17
    "GoogLeNet": Auxiliaries(0.3, "fc2", 1),  # as in its paper, https://arxiv.org/abs/1409.4842
}


# Names in torchvision's published files that its own loading turns into today's: DenseNet's, ViT's.
OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_2\."), r"\g<1>3."),
)


class _Part(NamedTuple):
    """What a rule of STAGES may look at: the path of a part's first weights, and the stride of the maps around it."""

    path: str
    stride_in: int
    stride_out: int


def _by_path(pattern: str, label: str, first: str = "stem") -> Callable[[_Part], str]:
    """Return the rule that names a part by its path; `first` is the name of those that do not match."""

    def rule(part: _Part) -> str:
        match = re.match(pattern, part.path)
        return match.expand(label) if match else first

    return rule


def _by_number(pattern: str, label: Callable[[int], str], first: str = "stem") -> Callable[[_Part], str]:
    """Return the rule that names a part by a number in its path; `first` is the name of those without one."""

    def rule(part: _Part) -> str:
        match = re.match(pattern, part.path)
        return label(int(match[1])) if match else first

    return rule


def _pairs(first: str) -> Callable[[_Part], str]:
    """Return the rule for features.0, features.1, features.2 and 3, ...: a downsampling begins a stage."""
    return _by_number(r"features\.([1-9])", lambda number: f"stage{number // 2 + 1}", first)


def _quarters(layers: int) -> Callable[[_Part], str]:
    """Return the rule for a transformer of so many layers, all of one resolution: a quarter of them is a stage."""
    length = layers // 4

    def label(number: int) -> str:
        first = number // length * length
        return f"layers{first}_{first + length - 1}"

    return _by_number(r"encoder\.layers\.encoder_layer_(\d+)", label, first="embed")


def _stride_out(part: _Part) -> str:
    return f"stride{part.stride_out}"


# By class of the model. Hidden linear layers before the head are the stage `hidden`, whatever the rule.
STAGES: dict[str, Callable[[_Part], str]] = {
    "AlexNet": _by_number(r"features\.(\d+)", lambda number: f"conv{[0, 3, 6, 8, 10].index(number) + 1}"),
    "ConvNeXt": _pairs("stem"),
    "DenseNet": _by_path(r"features\.(?:denseblock|transition)(\d)", r"dense\1"),
    "EfficientNet": _stride_out,
    "GoogLeNet": _by_path(r"(inception\d)", r"\1"),
    "Inception3": _by_path(r"(Mixed_\d)", r"\1"),
    "MNASNet": _stride_out,
    "MaxVit": _by_number(r"blocks\.(\d)", lambda number: f"block{number + 1}"),
    "MobileNetV2": _stride_out,
    "MobileNetV3": _stride_out,
    "RegNet": _by_path(r"trunk_output\.(block\d)", r"\1"),
    "ResNet": _by_path(r"(layer\d)", r"\1"),
    "ShuffleNetV2": _by_path(r"(stage\d|conv5)", r"\1"),
    "SqueezeNet": lambda part: f"stride{part.stride_in}" if part.stride_in > 1 else "stem",
    "SwinTransformer": _pairs("embed"),
    "VGG": lambda part: f"conv{part.stride_in.bit_length()}",  # a pooling doubles the stride and ends a stage
}


def arguments(name: str, image_size: int) -> dict[str, Any]:
    """Return what torchvision's get_model(name, weights=None, ...) must be given for this model, beside num_classes.

    Inception v3 and GoogLeNet take pixels normalised by a mean and a deviation of 0.5: torchvision's option to convert
    from ImageNet's normalisation (transform_input) stays off, as it is without weights.
    """
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name.startswith("maxvit_"):
        return {"input_size": [image_size, image_size]}
    if name in ("inception_v3", "googlenet"):
        return {"aux_logits": True, "init_weights": True}  # both are the defaults; unsaid, the second is a warning
    return {}


def construct(name: str, image_size: int) -> nn.Module:
    """Return torchvision's model, with weights as its own initialisation draws them."""
    model: nn.Module = torchvision.models.get_model(name, weights=None, **arguments(name, image_size))
    return model


class _Weightless(TorchFunctionMode):
    """Within this, layers are made without memory for their weights; small computations on the way have theirs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def skeleton(name: str, image_size: int) -> nn.Module:
    """Return the model on the device meta: without weights, which take time to draw."""
    with _Weightless(), torch.random.fork_rng(devices=[]):  # RegNet computes its widths, so not torch.device("meta")
        return construct(name, image_size).to("meta")


def current_name(key: str) -> str:
    """Return a tensor's name of today; an unchanged one stays.

    >>> current_name("features.denseblock1.denselayer2.norm.1.weight")
    'features.denseblock1.denselayer2.norm1.weight'
    """
    for old, new in OLD_NAMES:
        key = old.sub(new, key)
    return key


def head_path(model: nn.Module) -> str:
    """Return the path of the layer that gives one number per class: the last linear layer or convolution."""
    paths: list[str] = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return paths[-1]


def auxiliary_paths(model: nn.Module) -> list[str]:
    """Return the paths of the last linear layers of auxiliary heads."""
    found = AUXILIARIES.get(type(model).__name__)
    if found is None:
        return []
    return [f"{path}.{found.last}" for path, layer in model.named_children() if type(layer).__name__ == "InceptionAux"]


def cut(model: nn.Module, name: str) -> tuple[list[nn.Module], nn.Module]:
    """Return the model's parts, in forward order, and its head.

    Dropout right before the head is the head's, or a hidden layer's if it follows one. An auxiliary head is in the part
    whose output it takes.
    raises: UserError if the model cannot be cut.
    """
    traced = _trace(model, name)
    last = traced.segments[-1]
    drops = [] if isinstance(_first_layer(model, last), nn.Linear) else trailing_dropouts(model, last)
    parts, head = modules(model, traced.segments, traced.head, drops)
    ends = [segment.leaving[0] for segment in traced.segments]
    for node in traced.auxiliaries:
        place, options = ends.index(node.all_input_nodes[0]), AUXILIARIES[type(model).__name__]
        parts[place] = WithAuxiliary(parts[place], model.get_submodule(str(node.target)), options.weight, options.least)
    return parts, head


def stages(model: nn.Module, name: str, image_size: int) -> dict[str, int]:
    """Return the number of parts of every stage, in forward order. model: on the device meta."""
    traced = _trace(model, name)
    parts = [module(model, segment) for segment in traced.segments]
    layers = sum(type(layer).__name__ == "EncoderBlock" for layer in model.modules())
    rule = _quarters(layers) if layers else STAGES.get(type(model).__name__, _stride_out)
    counts: dict[str, int] = {}
    x, stride = torch.zeros(1, 3, image_size, image_size, device="meta"), 1
    for part, segment in zip(parts, traced.segments, strict=True):
        with torch.no_grad():
            x = part.eval()(x)
        before = stride
        if x.dim() == 4:  # not pooled to a vector
            stride = 2 ** round(math.log2(image_size / x.shape[-1]))  # pooling rounds up in some models
        path = str(next(node for node in segment.nodes if weights(model, node)).target)
        hidden = isinstance(_first_layer(model, segment), nn.Linear)
        label = "hidden" if hidden else rule(_Part(path, before, stride))
        counts[label] = counts.get(label, 0) + 1
    return counts


# --- the traced forward pass ----------------------------------------------------------------------------------


class _Traced(NamedTuple):
    segments: list[Segment]
    head: Segment
    auxiliaries: Sequence[Node]


class _Tracer(Tracer):
    """A tracer that sees a dense block as what it computes: after each layer, all channels so far side by side."""

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if type(m).__name__ != "_DenseBlock":
            return super().call_module(m, forward, args, kwargs)
        (x,) = args
        for layer in m.children():
            x = torch.cat([x, layer(x)], 1)  # (N, C + growth, h, w)
        return x


def _trace(model: nn.Module, name: str) -> _Traced:
    head = head_path(model)

    def leaf(layer: nn.Module, path: str) -> bool:
        if head.startswith(f"{path}."):
            return False
        first = next(iter(layer.children()), None)
        # A sequence that begins with a norm is one step, such as ConvNeXt's downsampling.
        return first is None or type(layer).__name__ in BLOCKS or isinstance(first, NORMS)

    training = model.training
    model.training = True  # so that auxiliary heads are traced; of this module alone, those inside are not looked at
    try:
        graph = _Tracer(leaf).trace(model)
    except Exception as error:  # whatever Python a model of the future does that torch.fx cannot follow
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"model.name={name}: torchvision's model cannot be cut ({reason})") from error
    finally:
        model.training = training
    logits, auxiliaries = _outputs(graph)
    return _Traced(*segments(model, logits, groups_in_order(model, logits, [head]), [head], name), auxiliaries)


def _outputs(graph: Graph) -> tuple[Node, list[Node]]:
    (output,) = (node for node in graph.nodes if node.op == "output")
    (given,) = output.all_input_nodes if len(output.all_input_nodes) == 1 else (output,)
    if given is output or isinstance(given.target, type):  # a tuple, by itself or made by a step
        logits, *auxiliaries = given.all_input_nodes
        return logits, auxiliaries
    return given, []


def _first_layer(model: nn.Module, segment: Segment) -> nn.Module:
    node = next(node for node in segment.nodes if node.op == "call_module" and weights(model, node))
    return model.get_submodule(str(node.target))
