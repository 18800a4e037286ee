"""Where a traced forward pass can be cut: wherever a single tensor goes on.

A cutter says which parameters belong together, as numbered groups in forward order, the head's last. What comes out are
modules that call the model's own layers, in the order in which torch.fx traced them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx import Graph, Node

from sweep.errors import UserError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Segment:
    """Steps of the traced forward pass between two places where a single tensor is alive.

    entry: the value that comes in. leaving: the value that goes out. groups: the numbers of the groups in it.
    """

    entry: Node
    nodes: list[Node]
    leaving: Node
    groups: range


class Tracer(fx.Tracer):
    """Trace a forward pass in which every module that `leaf` accepts is one step, as is every module without others."""

    def __init__(self, leaf: Callable[[nn.Module, str], bool]) -> None:
        super().__init__()
        self._leaf = leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._leaf(m, module_qualified_name)


def needed(output: Node) -> list[Node]:
    """Return the steps that a value depends on, in order: the images first, itself last."""
    found, left = {output}, [output]
    while left:
        new = [node for node in left.pop().all_input_nodes if node not in found]
        found.update(new)
        left += new
    return [node for node in output.graph.nodes if node in found]


def weights(model: nn.Module, node: Node) -> list[str]:
    """Return the paths of the parameters that a step of the graph uses."""
    if node.op == "call_module":
        return [f"{node.target}.{path}" for path, _ in model.get_submodule(str(node.target)).named_parameters()]
    names = dict(model.named_parameters())
    return [str(node.target)] if node.op == "get_attr" and node.target in names else []


def groups_in_order(model: nn.Module, logits: Node, head: str) -> dict[str, int]:
    """Return {parameter: number of its group}: a layer or block begins one, a lone norm or parameter joins the last."""
    found: dict[str, int] = {}
    number = -1
    for node in needed(logits):
        paths = weights(model, node)
        if paths and node.op == "call_module":
            begins = not isinstance(model.get_submodule(str(node.target)), NORMS)
            number += begins or node.target == head
        found |= dict.fromkeys(paths, max(number, 0))
    return found


def segments(
    model: nn.Module, logits: Node, groups: Mapping[str, int], head: str, name: str
) -> tuple[list[Segment], Segment]:
    """Return the model's segments in forward order, and its head's.

    logits: the value that the model returns; steps that it does not depend on, such as checks of shapes, are left out.
    groups: {parameter: number of its group}; the last group is the layer at the path `head`. A step belongs to the
    group of its weights, or, without weights, to the last group that it depends on. Groups between which several
    tensors pass are one segment.
    raises: UserError if several tensors, or other weights, come to the head.
    """
    steps = needed(logits)
    group: dict[Node, int] = {}
    for node in steps:
        own = [groups[path] for path in weights(model, node)]
        group[node] = max([*own, *(group[each] for each in node.all_input_nodes)], default=0)
    last = max(groups.values())  # the head's
    found: list[Segment] = []
    nodes: list[Node] = []
    entry, ended = steps[0], 0
    for number in range(last):
        nodes += [node for node in steps[1:] if group[node] == number]
        past = [node for node in steps if group[node] <= number]
        alive = [node for node in past if any(group.get(user, 0) > number for user in node.users)]
        if len(alive) > 1 or not nodes:
            continue
        found.append(Segment(entry, nodes, alive[0], range(ended, number + 1)))
        entry, nodes, ended = alive[0], [], number + 1
    first, *rest = (node for node in steps if group[node] == last)
    alone = first.target == head and first.args == (entry,) and not any(weights(model, node) for node in rest)
    if nodes or not found or not alone:
        raise UserError(f"model.name={name}: the model cannot be cut before its head {head}")
    return found, Segment(entry, [first, *rest], logits, range(last, last + 1))


def module(model: nn.Module, segment: Segment, without: Collection[Node] = ()) -> nn.Module:
    """Return a segment as a module that shares the model's layers: (N, ...) -> (N, ...).

    without: steps that are left out, each of one input, which goes on in place of their output.
    """
    chain = _chain(model, segment, without)
    if chain:
        return chain[0] if len(chain) == 1 else nn.Sequential(*chain)
    graph = Graph()
    copies = {segment.entry: graph.placeholder("x")}
    for node in segment.nodes:
        copies[node] = copies[node.all_input_nodes[0]] if node in without else graph.node_copy(node, copies.__getitem__)
    graph.output(copies[segment.leaving])
    return fx.GraphModule(model, graph)


def modules(
    model: nn.Module, parts: Sequence[Segment], head: Segment, drops: Sequence[Node]
) -> tuple[list[nn.Module], nn.Module]:
    """Return these segments as modules, and the head's; drops: dropouts of the last part that become the head's."""
    made = [module(model, each) for each in parts[:-1]] + [module(model, parts[-1], without=drops)]
    last = module(model, head)
    return made, nn.Sequential(*(model.get_submodule(str(node.target)) for node in drops), last) if drops else last


def trailing_dropouts(model: nn.Module, segment: Segment) -> list[Node]:
    """Return the dropout steps after the segment's last weights."""
    found: list[Node] = []
    for node in reversed(segment.nodes):
        if weights(model, node):
            break
        if node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), nn.Dropout):
            found.insert(0, node)
    return found


def _chain(model: nn.Module, segment: Segment, without: Collection[Node]) -> list[nn.Module]:
    """Return the segment's modules where it is nothing but one module after the other, else nothing."""
    found: list[nn.Module] = []
    value = segment.entry
    for node in segment.nodes:
        if node.op == "call_module" and node.args == (value,) and not node.kwargs:
            step = model.get_submodule(str(node.target))
            if node not in without and not isinstance(step, nn.Identity):
                found.append(step)
        elif node.target is torch.flatten and node.args == (value, 1):
            found.append(nn.Flatten(1))
        else:
            return []
        value = node
    return found if value is segment.leaving else []


def set_submodule(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def assert_covered(model: nn.Module, parts: Sequence[nn.Module]) -> None:
    """Raise RuntimeError unless every parameter and buffer of the model is in exactly one part."""
    owners: dict[int, int] = {}
    for part in parts:
        for identity in {id(tensor) for tensor in (*part.parameters(), *part.buffers())}:
            owners[identity] = owners.get(identity, 0) + 1
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        count = owners.pop(id(tensor), 0)
        if count != 1:
            raise RuntimeError(f"{name} belongs to {count} blocks; every parameter and buffer belongs to exactly one")
    if owners:
        raise RuntimeError(f"{len(owners)} tensors of the blocks are not the model's")
