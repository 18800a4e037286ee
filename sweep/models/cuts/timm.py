"""timm's models by name, cut at the boundaries of timm's own groups of layers (the optional extra `timm`).

Planning a point needs no model: what is read off one (its blocks, the sizes it takes, its weights' normalisation) is
kept in <cache folder>/timm/, one file per timm version, model and image size.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import itertools
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sweep.errors import UserError, unknown
from sweep.paths import cache_folder

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import Graph, GraphModule, Node

PREFIX = "timm/"  # what tells timm's resnet18 from torchvision's, in tables and on the command line
FORMAT = 1  # of the kept files; raise it when the cut changes


@dataclass(frozen=True)
class Card:
    """What planning needs to know about one model. Its pretrained weights: task, n_classes, mean, std, image_size.

    stages: blocks per stage, in forward order. fixed: whether weights fit one image size only (positions are learned).
    weights: the name of the pretrained weights, None if timm has none. refused: why this image size cannot be taken.
    """

    stages: dict[str, int]
    fixed: bool
    task: str
    n_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int  # pixels
    weights: str | None
    refused: str | None = None


def version() -> str:
    """Return timm's version without importing it; raise UserError if it is not installed."""
    try:
        return importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("model=timm: timm is not installed; pip install freeze-sweep[timm]") from None


@functools.lru_cache(maxsize=64)
def card(name: str, image_size: int | None) -> Card:
    """Return the card of a timm model, from disk where it was made before.

    image_size: pixels at which the model must run, or None to ask for nothing that depends on it.
    raises: UserError if timm has no such model, or it cannot be cut.
    """
    short = name.removeprefix(PREFIX)
    path = cache_folder() / "timm" / f"{FORMAT}-{version()}-{short.replace('/', '_')}-{image_size or 'any'}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Card(**found | {"mean": tuple(found["mean"]), "std": tuple(found["std"])})
    except (OSError, ValueError, TypeError, KeyError):
        pass
    made = _make_card(short, image_size)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(made)), encoding="utf-8")
        temporary.replace(path)
    except OSError:  # a cache that cannot be written costs a second, not the sweep
        temporary.unlink(missing_ok=True)
    return made


def _make_card(short: str, image_size: int | None) -> Card:
    import timm
    import torch

    architecture = short.partition(".")[0]
    if not timm.is_model(architecture):
        raise _unknown(architecture, timm.list_models())
    tagged = timm.list_pretrained(f"{architecture}.*")
    if "." in short and short not in tagged:
        raise _unknown(short, tagged)
    settings: Any = timm.get_pretrained_cfg(short)
    native = int(settings.input_size[-1])
    with torch.device("meta"):
        stages = _stages(_segments(construct(short, native), short))
        refused = None if image_size is None else _refusal(short, image_size)
    tag, classes = str(settings.tag or ""), int(settings.num_classes)
    return Card(
        stages,
        bool(settings.fixed_input_size),
        "imagenet" if tag.endswith("in1k") or classes == 1000 else tag or short,
        classes,
        tuple(settings.mean),
        tuple(settings.std),
        native,
        (settings.hf_hub_id or settings.url) if settings.has_weights else None,
        refused,
    )


def _unknown(name: str, allowed: Sequence[str]) -> UserError:
    whole = unknown("model.name", name, allowed)
    if len(allowed) <= 20:
        return whole
    hint = str(whole).rpartition("; did you mean")  # of timm's thousand names, only the nearest is told
    return UserError(f"model.name={name}: timm has no such model" + "".join(hint[1:] if hint[1] else ""))


def _refusal(short: str, size: int) -> str | None:
    """Return why the model cannot take images of this size, or None. No weight is computed with (device meta)."""
    import torch

    try:
        model = construct(short, size).eval()
        model(torch.empty(2, 3, size, size))
    except (AssertionError, RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
        return " ".join(str(error).split())[:150] or type(error).__name__
    return None


def construct(short: str, image_size: int) -> nn.Module:
    """Return timm's model with weights as its own initialisation draws them; short: timm's name, a tag allowed."""
    import timm

    settings: Any = timm.get_pretrained_cfg(short.removeprefix(PREFIX))
    options: dict[str, Any] = {"img_size": image_size} if settings.fixed_input_size else {}
    with warnings.catch_warnings():  # of models that timm has renamed
        warnings.simplefilter("ignore")
        model: nn.Module = timm.create_model(short.removeprefix(PREFIX), pretrained=False, **options)
    return model


def head_path(model: nn.Module, name: str) -> str:
    """Return the path of the last linear layer; raise UserError if the model ends in something else."""
    from torch import nn

    path = model.pretrained_cfg.get("classifier")  # type: ignore[operator, union-attr]
    if not isinstance(path, str) or not isinstance(model.get_submodule(path), nn.Linear):
        raise UserError(f"model.name={name.removeprefix(PREFIX)}: does not end in one linear layer, so it has no head")
    return path


def cut(model: nn.Module, name: str) -> tuple[list[nn.Module], nn.Module, dict[str, int]]:
    """Return the model's parts in forward order, its head, and the number of parts per stage.

    The parts call the model's own layers, in the order in which torch.fx traced them.
    raises: UserError if the model cannot be cut.
    """
    segments = _segments(model, name)
    parts: list[nn.Module] = [_module(model, segment) for segment in segments]
    return parts, model.get_submodule(head_path(model, name)), _stages(segments)


# --- where a traced forward pass can be cut -------------------------------------------------------------------


@dataclass(frozen=True)
class _Segment:
    """Steps of the traced forward pass between two places where a single tensor is alive."""

    stage: str  # its stage's name
    entry: Node  # the value that comes in
    nodes: list[Node]
    leaving: Node  # the value that goes out


def _stages(segments: Sequence[_Segment]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for segment in segments:
        counts[segment.stage] = counts.get(segment.stage, 0) + 1
    return counts


def _segments(model: nn.Module, name: str) -> list[_Segment]:
    """Trace the model and cut it after each of timm's groups where one tensor alone goes on.

    A step belongs to the group of its weights, or, without weights, to the last group that it depends on. Groups
    between which several tensors pass (those inside a dense block) are one part.
    """
    head = head_path(model, name)
    try:
        fine, coarse = _groups(model, head, coarse=False), _groups(model, head, coarse=True)
        graph = _trace(model, fine, head)
    except Exception as error:  # whatever timm's Python does that torch.fx cannot follow
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"model.name={name.removeprefix(PREFIX)}: timm's model cannot be cut ({reason})") from error
    group: dict[Node, int] = {}
    for node in graph.nodes:
        own = [fine[path] for path in _weights(model, node)]
        group[node] = max([*own, *(group[each] for each in node.all_input_nodes)], default=0)
    last = max(fine.values())  # the head's
    (output,) = (node for node in graph.nodes if node.op == "output")
    steps = _needed(output)  # without checks of shapes, whose results nobody takes
    stage_of = dict(sorted((fine[path], coarse[path]) for path in fine))  # of a group: its last weights'

    segments: list[_Segment] = []
    nodes: list[Node] = []
    start = steps[0]
    stage, label, ended = -1, "", 0
    labels: set[str] = set()
    for number in range(last):
        nodes += [node for node in steps[1:] if group[node] == number]
        past = [node for node in steps if group[node] <= number]
        alive = [node for node in past if any(group[user] > number for user in node.users if user in steps)]
        if len(alive) > 1 or not nodes:
            continue
        if stage_of[number] != stage:
            # A stage begins where timm's does, or, where several tensors pass there, with the next part.
            stage = stage_of[number]
            label = _label([path for path in fine if coarse[path] == stage and ended <= fine[path] < last], labels)
            labels.add(label)
        segments.append(_Segment(label, start, nodes, alive[0]))
        start, nodes, ended = alive[0], [], number + 1
    first, *rest = (node for node in steps if group[node] == last)
    behind = all(node.op == "call_module" and _is_identity(model, node) for node in rest if node is not output)
    if nodes or not segments or first.target != head or first.args != (start,) or not behind:
        raise UserError(f"model.name={name.removeprefix(PREFIX)}: timm's model cannot be cut before its head {head}")
    return segments


def _needed(output: Node) -> list[Node]:
    """Return the steps that the output depends on, in order: the images first, the output last."""
    needed, left = {output}, [output]
    while left:
        new = [node for node in left.pop().all_input_nodes if node not in needed]
        needed.update(new)
        left += new
    return [node for node in output.graph.nodes if node in needed]


def _is_identity(model: nn.Module, node: Node) -> bool:
    from torch import nn

    return isinstance(model.get_submodule(str(node.target)), nn.Identity)


def _groups(model: Any, head: str, coarse: bool) -> dict[str, int]:
    """Return {parameter: number of its group}, in forward order; the head's layer alone is the last group."""
    from timm.models import group_parameters

    found: dict[str, int] = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    of_head = {path for path in found if path.startswith(head + ".")}
    # What timm groups with the head (a last norm or convolution) belongs to the block before it.
    joined = {found[path] for path in of_head}
    numbers = sorted(set(found.values()) - joined)
    place = {number: index for index, number in enumerate(numbers)} | dict.fromkeys(joined, len(numbers) - 1)
    return {path: len(numbers) if path in of_head else place[number] for path, number in found.items()}


def _trace(model: nn.Module, groups: dict[str, int], head: str) -> Graph:
    """Return the forward pass as a graph, in which a module whose weights are all of one group is one step."""
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, qualified: str) -> bool:
            if head.startswith(f"{qualified}."):
                return False
            return len({groups[f"{qualified}.{path}"] for path, _ in module.named_parameters()}) <= 1

    others = list(inspect.signature(model.forward).parameters)[1:]  # such as attn_mask
    return Tracer().trace(model, concrete_args=dict.fromkeys(others))


def _weights(model: nn.Module, node: Node) -> list[str]:
    """Return the paths of the parameters that a step of the graph uses."""
    if node.op == "call_module":
        return [f"{node.target}.{path}" for path, _ in model.get_submodule(str(node.target)).named_parameters()]
    names = dict(model.named_parameters())
    return [str(node.target)] if node.op == "get_attr" and node.target in names else []


def _label(paths: Sequence[str], taken: set[str]) -> str:
    """Return the path that these parameters share, such as layer2, and a step more of the first where that is taken.

    Where they share none, the first one counts: conv_stem.
    """
    kin = [path.split(".")[:-1] for path in paths if "." in path]
    kin = [path for path in kin if path[0] == kin[0][0]]
    shared = list(itertools.takewhile(lambda step: len(set(step)) == 1, zip(*kin, strict=False)))
    label = ".".join(kin[0][: len(shared)])
    return label if label not in taken else ".".join(kin[0][: len(shared) + 1])


def _module(model: nn.Module, segment: _Segment) -> GraphModule:
    """Return a segment as a module that shares the model's layers: (N, ...) -> (N, ...)."""
    from torch import fx

    graph, copies = fx.Graph(), {}
    copies[segment.entry] = graph.placeholder("x")
    for node in segment.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[segment.leaving])
    return fx.GraphModule(model, graph)


def pretrained(name: str) -> dict[str, Tensor]:
    """Return timm's pretrained weights with the head, downloaded once (kept by huggingface_hub or torch.hub).

    raises: UserError, in one line, if they cannot be had.
    """
    import timm

    short = name.removeprefix(PREFIX)
    try:
        found: dict[str, Tensor] = timm.create_model(short, pretrained=True).state_dict()
    except Exception as error:  # of urllib, httpx, huggingface_hub or torch, by where timm keeps this file
        raise UserError(
            f"source=timm: cannot download the weights of {short} ({' '.join(str(error).split())[:200]}); where there "
            "is no network, use source=checkpoint source.path=FILE"
        ) from error
    return found
