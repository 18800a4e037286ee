"""timm's models by name, cut at the boundaries of timm's own groups of layers (the optional extra `timm`).

Where timm groups nothing, or a single tensor does not pass between its groups, the model's own modules are the groups.
timm is imported by the functions that need it, because it may not be installed.
"""

import functools
import inspect
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.fx import Node

from sweep.errors import UserError
from sweep.models.cuts.graph import (
    LEAST_STAGES,
    Segment,
    groups_in_order,
    labels_of,
    module,
    needed,
    segments,
)
from sweep.models.cuts.shaped import ShapedTracer
from sweep.models.spec import TIMM

_TOLD = re.compile(r"(?<=\btraining: )(?:True|False)\b")  # F.dropout's; segments have layers in its place
HEAD_CLASSES = 1000  # of the head that a model without one gets, which is replaced by the task's


class Cut(NamedTuple):
    """Where a model is cut: its segments in forward order, its head's, and the stage of each segment.

    unused: paths of tensors that have no part in what the model gives, such as the token of masked patches.
    """

    segments: list[Segment]
    head: Segment
    labels: list[str]
    unused: frozenset[str]


def construct(name: str, image_size: int) -> nn.Module:
    """Return timm's model with weights as its own initialisation draws them; one without a head gets one."""
    import timm  # noqa: PLC0415  # optional

    short = name.removeprefix(TIMM)
    settings: Any = timm.get_pretrained_cfg(short)
    head: dict[str, Any] = {} if settings.num_classes else {"num_classes": HEAD_CLASSES}
    with warnings.catch_warnings():  # of models that timm has renamed
        warnings.simplefilter("ignore")
        model: nn.Module = timm.create_model(short, pretrained=False, **arguments(name, image_size), **head)
    return model


def skeleton(name: str, image_size: int) -> nn.Module:
    """Return the model on the device meta: without weights, which take time to draw."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return construct(name, image_size)


def arguments(name: str, image_size: int) -> dict[str, Any]:
    """Return what timm's create_model() must be given for this model, beside its name and num_classes."""
    import timm  # noqa: PLC0415  # optional

    settings: Any = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    return {"img_size": image_size} if settings.fixed_input_size else {}


def head_paths(model: nn.Module, name: str) -> list[str]:
    """Return the paths of the layers that give one number per class: one, or as many as the model averages over."""
    given = model.pretrained_cfg.get("classifier")  # type: ignore[operator, union-attr]
    paths: list[str] = [given] if isinstance(given, str) else list(given or ())
    if not paths or not all(isinstance(model.get_submodule(each), nn.Linear | nn.Conv2d) for each in paths):
        raise UserError(f"model.name={name.removeprefix(TIMM)}: has no layer that gives one number per class: no head")
    return paths


def cut(model: nn.Module, name: str, image_size: int) -> tuple[list[nn.Module], nn.Module]:
    """Return the model's parts, in forward order, and its head; raise UserError if the model cannot be cut."""
    found = find(name, image_size)
    return [module(model, segment) for segment in found.segments], module(model, found.head)


def stages(name: str, image_size: int) -> dict[str, int]:
    """Return the number of parts of every stage, in forward order."""
    return dict(Counter(find(name, image_size).labels))


@functools.lru_cache(maxsize=32)
def find(name: str, image_size: int) -> Cut:
    """Return where a model is cut for images of this size; raise UserError if it cannot be.

    A cut at timm's groups counts if it gives some stages; else the finest one.
    """
    model = skeleton(name, image_size)
    heads = head_paths(model, name)
    found: list[Cut] = []
    reasons: list[str] = []
    for packed, way in itertools.product((False, True), WAYS):
        try:
            found.append(way(model, heads, image_size, packed))
        except Exception as error:  # whatever timm's Python does that cannot be followed
            reasons.append(" ".join(str(error).split()).removeprefix("model.name=: ")[:150])
        if found and len(found[-1].segments) >= LEAST_STAGES:
            return found[-1]
    if not found:
        raise UserError(f"model.name={name.removeprefix(TIMM)}: timm's model cannot be cut ({reasons[-1]})")
    return max(found, key=lambda each: len(each.segments))


def _by_timms_groups(model: nn.Module, heads: Sequence[str], image_size: int, packed: bool) -> Cut:
    """Return the cut between timm's groups; a stage begins where timm's does, or, if it cannot, with the next part."""
    fine, coarse = (_groups(model, heads, coarse) for coarse in (False, True))

    def leaf(layer: nn.Module, path: str) -> bool:
        return not _holds(path, heads) and len({fine[f"{path}.{own}"] for own in _paths(layer)}) <= 1

    logits = _trace(model, leaf, image_size)
    found, head = segments(model, logits, fine, heads, "", packed)
    stage_of = dict(sorted((fine[path], coarse[path]) for path in fine))  # of a group: its last weights'
    labels: list[str] = []
    stage = -1
    for segment in found:
        if stage_of[segment.groups[-1]] != stage:
            stage = stage_of[segment.groups[-1]]
            own = range(segment.groups[0], head.groups[0])
            label = _label([path for path in fine if coarse[path] == stage and fine[path] in own], labels)
        labels.append(label)
    return Cut(found, head, labels, _unused(model, logits))


def _by_modules(model: nn.Module, heads: Sequence[str], image_size: int, packed: bool, fine: bool) -> Cut:
    """Return the cut between the model's modules, those that hold several alike looked into.

    fine: so are those that are more than half of it.
    """
    weighed = sum(each.numel() for each in model.parameters())

    def leaf(layer: nn.Module, path: str) -> bool:
        large = fine and sum(each.numel() for each in layer.parameters()) > weighed / 2
        own = type(layer).__module__.startswith("torch.nn.")
        return not _holds(path, heads) and not _holds_alike(layer) and (own or not large)

    logits = _trace(model, leaf, image_size)
    found, head = segments(model, logits, groups_in_order(model, logits, heads), heads, "", packed)
    return Cut(found, head, labels_of(model, found), _unused(model, logits))


WAYS: tuple[Callable[[nn.Module, Sequence[str], int, bool], Cut], ...] = (
    _by_timms_groups,
    functools.partial(_by_modules, fine=True),
    functools.partial(_by_modules, fine=False),
)


def _holds(path: str, heads: Sequence[str]) -> bool:
    return any(head.startswith(f"{path}.") for head in heads)


def _holds_alike(layer: nn.Module) -> bool:
    """Return whether a module is a sequence, or holds one of several blocks of one class, such as a stage does."""
    if isinstance(layer, nn.Sequential):
        return type(layer).forward is nn.Sequential.forward
    lists = (each for each in layer.children() if isinstance(each, nn.Sequential | nn.ModuleList))
    kinds = (
        Counter(type(each) for each in inner if not type(each).__module__.startswith("torch.nn.")) for inner in lists
    )
    return any(max(each.values(), default=0) > 1 for each in kinds)


def _paths(layer: nn.Module) -> Iterator[str]:
    return (path for path, _ in layer.named_parameters(remove_duplicate=False))


def _groups(model: Any, heads: Sequence[str], coarse: bool) -> dict[str, int]:
    """Return {parameter: number of its group}, in forward order; the heads' layers alone are the last group."""
    from timm.models import group_parameters  # noqa: PLC0415  # optional

    found: dict[str, int] = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    of_head = {path for path in found if path.rpartition(".")[0] in heads}
    # What timm groups with the head (a last norm or convolution) belongs to the block before it.
    joined = {found[path] for path in of_head}
    numbers = sorted(set(found.values()) - joined)
    place = {number: index for index, number in enumerate(numbers)} | dict.fromkeys(joined, len(numbers) - 1)
    groups = {path: len(numbers) if path in of_head else place[number] for path, number in found.items()}
    first = {id(each): path for path, each in model.named_parameters()}
    return {path: groups[first[id(each)]] for path, each in model.named_parameters(remove_duplicate=False)}


def _trace(model: nn.Module, leaf: Callable[[nn.Module, str], bool], image_size: int) -> Node:
    """Return what the forward pass returns; `leaf` says which modules are one step of its graph.

    raises: UserError where it is not the same in training.
    """
    others = list(inspect.signature(model.forward).parameters.values())[1:]  # such as attn_mask
    fixed = {each.name: None if each.default is each.empty else each.default for each in others}
    graphs = [ShapedTracer(leaf, image_size).trace(model.train(mode), concrete_args=fixed) for mode in (False, True)]
    texts = [_TOLD.sub("", str(graph)) for graph in graphs]
    if texts[0] != texts[1]:
        raise UserError("it does something else in training outside of its layers, which freezing could not turn off")
    (output,) = (node for node in graphs[1].nodes if node.op == "output")
    if not isinstance(output.args[0], Node):
        raise UserError("it returns more than one tensor")
    return output.args[0]


def _unused(model: nn.Module, logits: Node) -> frozenset[str]:
    steps = needed(logits)
    layers = (model.get_submodule(str(node.target)) for node in steps if node.op == "call_module")
    used = {id(each) for layer in layers for each in (*layer.parameters(), *layer.buffers())}
    looked_up = {node.target for node in steps if node.op == "get_attr"}
    tensors = (*model.named_parameters(), *model.named_buffers())
    return frozenset(path for path, each in tensors if id(each) not in used and path not in looked_up)


def _label(paths: Sequence[str], taken: Sequence[str]) -> str:
    """Return the path that these parameters share, such as layer2, and a step more of the first where that is taken.

    Where they share none, the first one counts: conv_stem.
    """
    steps = [path.split(".")[:-1] for path in paths if "." in path]
    steps = [path for path in steps if path[0] == steps[0][0]]
    shared = list(itertools.takewhile(lambda step: len(set(step)) == 1, zip(*steps, strict=False)))
    label = ".".join(steps[0][: len(shared)])
    return label if label not in taken else ".".join(steps[0][: len(shared) + 1])


def pretrained(name: str) -> dict[str, Any]:
    """Return timm's pretrained weights with the head, downloaded once (kept by huggingface_hub or torch.hub).

    raises: UserError, in one line, if they cannot be had.
    """
    import timm  # noqa: PLC0415  # optional

    short = name.removeprefix(TIMM)
    try:
        found: dict[str, Any] = timm.create_model(short, pretrained=True).state_dict()
    except Exception as error:  # of urllib, httpx, huggingface_hub or torch, by where timm keeps this file
        raise UserError(
            f"source=timm: cannot download the weights of {short} ({' '.join(str(error).split())[:200]}); where there "
            "is no network, use source=checkpoint source.path=FILE"
        ) from error
    return found
