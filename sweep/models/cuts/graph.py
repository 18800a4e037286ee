"""Where a traced forward pass can be cut: wherever a single tensor goes on.

A cutter says which parameters belong together, as numbered groups in forward order, the head's last. What comes out are
modules that call the model's own layers, in the order in which torch.fx traced them.
"""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx import Graph, Node

from sweep.errors import UserError
from sweep.models.cuts.packing import Form, pack, unpack

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
LEAST_STAGES = 3  # where a model's children make fewer, every block is a stage
MOST_PACKED = 4  # tensors that pass a cut side by side
VALUE, FORM = "value", "form"  # in a node's meta: what it gave in a trace that knows shapes, and its form for an image


def batch_of(x: Tensor) -> int:
    """Return the number of images."""
    return x.shape[0]


def device_of(x: Tensor) -> torch.device:
    """Return where a batch is computed."""
    return x.device


OF_BATCH = (batch_of, device_of)  # of the images; in a segment, of what comes in


@dataclass(frozen=True)
class Segment:
    """Steps of the traced forward pass between two places where a single tensor is alive.

    entries: the values that come in. leaving: those that go out; one, unless they are packed. groups: the numbers of
    the groups in it.
    """

    entries: list[Node]
    nodes: list[Node]
    leaving: list[Node]
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
    """Return the paths of the parameters that a step of the graph uses; a shared one has its first path."""
    if node.op == "call_module":
        own = {id(each) for each in model.get_submodule(str(node.target)).parameters()}
        return [path for path, each in model.named_parameters() if id(each) in own] if own else []
    if node.op != "get_attr":
        return []
    names = dict(model.named_parameters(remove_duplicate=False))
    own = {id(names[str(node.target)])} if node.target in names else set()
    return [path for path, each in model.named_parameters() if id(each) in own] if own else []


def groups_in_order(model: nn.Module, logits: Node, heads: Sequence[str]) -> dict[str, int]:
    """Return {parameter: number of its group}: a layer or block begins one, a lone norm or parameter joins the last.

    heads: the paths of layers that are the last group, in the order in which they run.
    """
    found: dict[str, int] = {}
    number = -1
    for node in needed(logits):
        paths = weights(model, node)
        if paths and node.op == "call_module" and node.target not in heads:
            number += not isinstance(model.get_submodule(str(node.target)), NORMS)
        found |= dict.fromkeys(paths, max(number, 0))
    return {path: number + 1 if path.rpartition(".")[0] in heads else group for path, group in found.items()}


def segments(
    model: nn.Module, logits: Node, groups: Mapping[str, int], heads: Sequence[str], name: str, packed: bool = False
) -> tuple[list[Segment], Segment]:
    """Return the model's segments in forward order, and its head's.

    logits: the value that the model returns; steps that it does not depend on, such as checks of shapes, are left out.
    groups: {parameter: number of its group}; the last group are the layers at the paths `heads`. A step belongs to the
    group of its weights, or, without weights, to the last group that it depends on. Groups between which several
    tensors pass are one segment, unless these are packed into one; so are groups that share a weight. Of several heads,
    what they do not share belongs to the head: the tokens that each of them takes, a norm before each.
    raises: UserError if several tensors, or other weights, come to the head.
    """
    steps = needed(logits)
    last = max(groups.values())  # the head's
    group = _groups_of_steps(model, steps, groups)
    if len(heads) > 1:
        _widen_head(model, steps, group, last)
    spans: dict[str, list[int]] = {}
    for node, number in group.items():
        for path in weights(model, node):
            spans.setdefault(path, []).append(number)
    found: list[Segment] = []
    nodes: list[Node] = []
    entries, ended = [steps[0]], 0
    for number in range(last):
        nodes += [node for node in steps[1:] if group.get(node) == number]
        alive = _alive(steps, group, number)
        shared = any(min(span) <= number < max(span) for span in spans.values())
        if shared or not nodes or not _can_pass(alive, steps[0], packed):
            continue
        found.append(Segment(entries, nodes, alive, range(ended, number + 1)))
        entries, nodes, ended = alive, [], number + 1
    own = [node for node in steps if group.get(node) == last]
    own_weights = {path for node in own[1:] for path in weights(model, node)}
    alone = len(heads) > 1 or (own[0].target == heads[0] and [*own[0].args] == entries and not own_weights)
    if nodes or not found or not alone:
        raise UserError(f"model.name={name}: the model cannot be cut before its head {', '.join(heads)}")
    return found, Segment(entries, own, [logits], range(last, last + 1))


def _groups_of_steps(model: nn.Module, steps: Sequence[Node], groups: Mapping[str, int]) -> dict[Node, int]:
    """Return {step: number of its group}.

    Steps that depend on no image are in the first group that uses them: a class token may join the others late. Those
    that have no weights either, such as the angles of rotary positions, are in none: every segment makes its own.
    """
    free: set[Node] = set()
    weighty: set[Node] = set()
    group: dict[Node, int] = {}
    for node in steps:
        paths = weights(model, node)
        inputs = node.all_input_nodes
        if node.target in OF_BATCH and inputs == [steps[0]]:
            free.add(node)
        elif node is not steps[0] and all(each in free for each in inputs):
            free.add(node)
            if paths or any(each in weighty for each in inputs):
                weighty.add(node)
        else:
            own = [groups[path] for path in paths]
            group[node] = max([*own, *(group[each] for each in inputs if each in group)], default=0)
    for node in reversed(steps):
        if node in weighty:
            group[node] = min(group[user] for user in node.users if user in group)
    return group


def _alive(steps: Sequence[Node], group: Mapping[Node, int], number: int) -> list[Node]:
    """Return the values of groups up to this number that later groups need."""
    past = [node for node in steps if node in group and group[node] <= number]
    return [node for node in past if any(group.get(user, 0) > number for user in node.users)]


def _widen_head(model: nn.Module, steps: Sequence[Node], group: dict[Node, int], last: int) -> None:
    """Put the last steps before several heads into the head's group, until a single tensor comes to it."""
    while len(alive := _alive(steps, group, last - 1)) > 1:
        latest = alive[-1]
        layer = model.get_submodule(str(latest.target)) if latest.op == "call_module" else None
        if weights(model, latest) and not isinstance(layer, NORMS):
            return
        group[latest] = last


def _can_pass(alive: Sequence[Node], images: Node, packed: bool) -> bool:
    """Return whether these values can go on alone: one tensor with a row for every image, or what can be packed."""
    if VALUE not in images.meta:
        return len(alive) == 1
    if len(alive) == 1 and isinstance(alive[0].meta[VALUE], Tensor):
        return bool(alive[0].meta[VALUE].shape[:1] == images.meta[VALUE].shape[:1])
    return packed and 0 < len(alive) <= MOST_PACKED and all(each.meta[FORM] is not None for each in alive)


def _forms(nodes: Sequence[Node]) -> list[Form]:
    """Return the forms of values that pass a cut packed; none where one tensor passes."""
    if len(nodes) == 1 and isinstance(nodes[0].meta.get(VALUE, Tensor()), Tensor):
        return []
    return [node.meta[FORM] for node in nodes]


def labels_of(model: nn.Module, found: Sequence[Segment]) -> list[str]:
    """Return the stage of every segment: the model's child that its first weights are in."""
    firsts = [next(path for node in each.nodes for path in weights(model, node)) for each in found]
    paths = [path.split(".") for path in firsts]
    while len({path[0] for path in paths}) == 1 and min(map(len, paths)) > 1:  # a backbone in one child
        paths = [path[1:] for path in paths]
    tops = [path[0] for path in paths]
    begins = [number == 0 or tops[number - 1] != top for number, top in enumerate(tops)]
    stages = [top for top, begin in zip(tops, begins, strict=True) if begin]
    if len(stages) < LEAST_STAGES or len({*stages}) < len(stages):  # each block by itself
        own = [path.rpartition(".")[0] or path for path in firsts]
        return own if len({*own}) == len(own) else firsts
    return tops


def module(model: nn.Module, segment: Segment, without: Collection[Node] = ()) -> nn.Module:
    """Return a segment as a module that shares the model's layers: (N, ...) -> (N, ...).

    without: steps that are left out, each of one input, which goes on in place of their output.
    """
    chain = _chain(model, segment, without)
    if chain:
        return chain[0] if len(chain) == 1 else nn.Sequential(*chain)
    graph = Graph()
    x = graph.placeholder("x")
    forms = _forms(segment.entries)
    opened = graph.call_function(unpack, (x, forms)) if forms else x
    copies = {
        node: graph.call_function(operator.getitem, (opened, place)) if forms else x
        for place, node in enumerate(segment.entries)
    }

    def copy(node: Node) -> Node:
        if node not in copies:  # a step that is in no group
            copies[node] = graph.node_copy(node, (lambda _: x) if node.target in OF_BATCH else copy)
        return copies[node]

    for node in segment.nodes:
        copies[node] = copies[node.all_input_nodes[0]] if node in without else graph.node_copy(node, copy)
    leaving = [copies[each] for each in segment.leaving]
    forms = _forms(segment.leaving)
    graph.output(graph.call_function(pack, (leaving, forms)) if forms else leaving[0])
    return _with_dropouts(fx.GraphModule(model, graph))


def _with_dropouts(made: fx.GraphModule) -> fx.GraphModule:
    """Put layers in the place of dropout functions, which were told whether it is training; layers know themselves."""
    for number, node in enumerate(made.graph.find_nodes(op="call_function", target=F.dropout)):
        rate = node.kwargs["p"] if "p" in node.kwargs else node.args[1] if len(node.args) > 1 else 0.5
        made.add_submodule(f"dropout_of_{number}", nn.Dropout(float(rate)).train(made.training))
        with made.graph.inserting_before(node):
            layer = made.graph.call_module(f"dropout_of_{number}", (node.args[0],))
        node.replace_all_uses_with(layer)
        made.graph.erase_node(node)
    made.recompile()
    return made


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
    value = segment.entries[0]
    if _forms(segment.entries) or _forms(segment.leaving):
        return []
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
    return found if value is segment.leaving[0] else []


def set_submodule(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def assert_covered(model: nn.Module, parts: Sequence[nn.Module], unused: Collection[str] = ()) -> None:
    """Raise RuntimeError unless every parameter and buffer of the model is in exactly one part.

    unused: paths of those that have no part in what the model gives, and may be in none. Several parts may look up a
    buffer, such as the angles of rotary positions.
    """
    owners: dict[int, int] = {}
    for part in parts:
        for identity in {id(tensor) for tensor in (*part.parameters(), *part.buffers())}:
            owners[identity] = owners.get(identity, 0) + 1
    weighty = dict(model.named_parameters())
    for name, tensor in (*weighty.items(), *model.named_buffers()):
        count = owners.pop(id(tensor), 0)
        if count != 1 and (name not in unused if count == 0 else name in weighty):
            raise RuntimeError(f"{name} belongs to {count} blocks; every parameter and buffer belongs to exactly one")
    if owners:
        raise RuntimeError(f"{len(owners)} tensors of the blocks are not the model's")
