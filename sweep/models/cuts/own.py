"""A model of the user's own: made by a function that model.factory names, cut wherever a single tensor goes on.

Its name holds all that it depends on: module/my_file:build@CONTENT, and the regular expressions of model.blocks.
"""

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from sweep import factory
from sweep.errors import UserError
from sweep.models.cuts.graph import (
    Segment,
    Tracer,
    groups_in_order,
    labels_of,
    modules,
    segments,
    trailing_dropouts,
)
from sweep.models.spec import OWN

SETTING = "model.factory"
HEAD_CLASSES = 1000  # of a head that is made only to be replaced, where the factory must be told


class Name(NamedTuple):
    """What a full name says."""

    spec: str
    content: str
    blocks: list[str]


class Cut(NamedTuple):
    """The model's parts, in forward order, its head, and the number of parts of every stage."""

    parts: list[nn.Module]
    head: nn.Module
    stages: dict[str, int]


def parsed(name: str) -> Name:
    """Return what module/FILE:NAME@CONTENT["regex", ...] says."""
    spec, _, rest = name.removeprefix(OWN).partition("@")
    content, bracket, blocks = rest.partition("[")
    return Name(spec, content, json.loads(bracket + blocks) if bracket else [])


def construct(name: str, pretrained: bool = False) -> nn.Module:
    """Return what the factory makes; raise UserError, in one line, where that is no model."""
    spec, content, _ = parsed(name)
    with torch.random.fork_rng(devices=[]):  # an import that draws numbers changes no weights
        build = factory.made(SETTING, spec, content)
    return called(build, spec, pretrained)


def called(build: Callable[..., nn.Module], spec: str, pretrained: bool = False) -> nn.Module:
    """Return what this function makes; raise UserError, in one line, where that is no model."""
    call = f"{spec.partition(':')[2]}()"
    given = factory.arguments(SETTING, spec, build, {"pretrained": pretrained}, {"n_classes": HEAD_CLASSES})
    with factory.one_line(SETTING, spec, call):
        made: object = build(**given)
    if not isinstance(made, nn.Module):
        raise UserError(f"{SETTING}={spec}: {call} returned a {type(made).__name__}; return a torch.nn.Module")
    return made


def has_weights(name: str) -> bool:
    """Return whether the factory has an argument `pretrained`."""
    spec, content, _ = parsed(name)
    build = factory.made(SETTING, spec, content)
    return "pretrained" in factory.arguments(SETTING, spec, build, {"pretrained": True}, {"n_classes": HEAD_CLASSES})


def head_path(model: nn.Module, name: str) -> str:
    """Return the path of the last linear layer that the model defines; raise UserError if there is none."""
    paths: list[str] = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not paths or not paths[-1]:
        raise _refused(name, "has no torch.nn.Linear to be its head; its last layer must be one, and be defined last")
    return paths[-1]


def cut(model: nn.Module, name: str) -> Cut:
    """Return the model cut into blocks; raise UserError, in one line, if it cannot be."""
    blocks = parsed(name).blocks
    head = head_path(model, name)
    if blocks:
        groups = _groups_of(model, head, blocks, name)
        logits = _trace(model, _leaf_of(groups, head), name)
        found, last = segments(model, logits, groups, [head], name)
        _check_apart(found, blocks, name)
        labels = blocks
    else:
        found, last = _found(model, head, name)
        labels = labels_of(model, found)
    parts, classifier = modules(model, found, last, trailing_dropouts(model, found[-1]))
    return Cut(parts, classifier, {label: labels.count(label) for label in labels})


def check(model: nn.Module, name: str, images: Tensor) -> str | None:
    """Return why the model cannot take such images (N, 3, S, S), None if it can; raise UserError if it cannot be used.

    One block after the other must give what the whole model gives, and the same again.
    """
    parts, head, _ = cut(model, name)
    with torch.no_grad():
        try:
            whole = model.eval()(images)
        except Exception as error:  # whatever the user's code raises
            return " ".join(str(error).split())[:150] or type(error).__name__
        again, x = model(images), images
        for part in (*parts, head):
            x = part.eval()(x)
    if not isinstance(whole, Tensor) or whole.dim() != 2 or len(whole) != len(images):
        shape = tuple(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
        raise _refused(name, f"gives {shape} of {len(images)} images; it must return logits (images, classes)")
    if not torch.equal(whole, again):
        raise _refused(name, "gives other logits each time in evaluation mode; use torch.nn.Dropout, or self.training")
    if not torch.allclose(whole, x, rtol=1e-3, atol=1e-5):
        raise _refused(name, "gives other logits than its blocks one after the other; say them with model.blocks")
    return None


def _refused(name: str, why: str) -> UserError:
    return UserError(f"{SETTING}={parsed(name).spec}: the model {why}")


# --- blocks that the user names --------------------------------------------------------------------------------


def _groups_of(model: nn.Module, head: str, blocks: Sequence[str], name: str) -> dict[str, int]:
    """Return {parameter: number of its block}, the head's last; raise UserError unless each is in exactly one."""
    groups: dict[str, int] = {}
    for path, _ in model.named_parameters(remove_duplicate=False):
        steps = path.split(".")
        above = [".".join(steps[:count]) for count in range(1, len(steps) + 1)]
        own = [number for number, block in enumerate(blocks) if any(re.fullmatch(block, each) for each in above)]
        if path.startswith(f"{head}."):
            if own:
                raise UserError(f"model.blocks: {blocks[own[0]]} names the head {head}, which is always trained")
            own = [len(blocks)]
        if len(own) != 1:
            several = f"{len(own)} blocks ({', '.join(blocks[each] for each in own)})" if own else "no block"
            raise UserError(f"model.blocks: {path} is in {several}; every parameter but the head's must be in one")
        groups[path] = own[0]
    for number, block in enumerate(blocks):
        if number not in groups.values():
            names = ", ".join(path for path, _ in model.named_children())
            raise UserError(f"model.blocks: {block} names nothing with parameters; {parsed(name).spec} has {names}")
    return groups


def _leaf_of(groups: dict[str, int], head: str) -> Callable[[nn.Module, str], bool]:
    def leaf(layer: nn.Module, path: str) -> bool:
        own = {groups[f"{path}.{each}"] for each, _ in layer.named_parameters()}
        return not head.startswith(f"{path}.") and len(own) <= 1

    return leaf


def _check_apart(found: Sequence[Segment], blocks: Sequence[str], name: str) -> None:
    for segment in found:
        if len(segment.groups) > 1:
            joined = ", ".join(blocks[each] for each in segment.groups)
            raise UserError(
                f"model.blocks: {joined} of {parsed(name).spec} cannot be cut apart: they are not in the order of the "
                "forward pass, or more than one tensor passes between them; make them one block: 'a|b'"
            )


# --- blocks that are found -------------------------------------------------------------------------------------


def _found(model: nn.Module, head: str, name: str) -> tuple[list[Segment], Segment]:
    """Return the model's segments and its head's, as fine as torch.fx can follow."""

    def cut_by(leaf: Callable[[nn.Module, str], bool]) -> tuple[list[Segment], Segment]:
        logits = _trace(model, leaf, name)
        return segments(model, logits, groups_in_order(model, logits, [head]), [head], name)

    weighed = sum(each.numel() for path, each in model.named_parameters() if not path.startswith(f"{head}."))
    try:
        return cut_by(_leaf(head, weighed / 2))
    except UserError:
        return cut_by(_leaf(head, weighed))


def _leaf(head: str, large: float) -> Callable[[nn.Module, str], bool]:
    """Return what tells a step of the forward pass: a module that is no sequence, without the head, and not large.

    large: a module with more weights than that is looked into: a whole backbone is no block.
    """

    def leaf(layer: nn.Module, path: str) -> bool:
        if head.startswith(f"{path}."):
            return False
        sequence = isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward
        own = type(layer).__module__.startswith("torch.nn.")  # none of torch's but a sequence is looked into
        return not sequence and (own or sum(each.numel() for each in layer.parameters()) <= large)

    return leaf


# --- the traced forward pass -----------------------------------------------------------------------------------


def _trace(model: nn.Module, leaf: Callable[[nn.Module, str], bool], name: str) -> Node:
    """Return what the forward pass returns; raise UserError if torch.fx cannot follow it, or not in both modes."""
    others = list(inspect.signature(model.forward).parameters.values())[1:]
    fixed = {each.name: each.default for each in others if each.default is not each.empty}
    modes = {layer: layer.training for layer in model.modules()}
    try:
        graphs: list[Graph] = [Tracer(leaf).trace(model.train(mode), concrete_args=fixed) for mode in (False, True)]
    except Exception as error:  # whatever Python torch.fx cannot follow
        reason = " ".join(str(error).split())[:150]
        raise _refused(
            name,
            f"cannot be cut ({reason}); torch.fx must be able to follow what is outside of its blocks: see docs/own.md",
        ) from error
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    if str(graphs[0]) != str(graphs[1]):
        raise _refused(
            name,
            "does something else in training outside of its layers, which freezing could not turn off; use layers "
            "such as torch.nn.Dropout instead of functions that are told self.training",
        )
    (output,) = (node for node in graphs[1].nodes if node.op == "output")
    if len(output.all_input_nodes) != 1 or not isinstance(output.args[0], Node):
        raise _refused(name, "returns more than one tensor; it must return logits (images, classes)")
    logits: Node = output.args[0]
    return logits
