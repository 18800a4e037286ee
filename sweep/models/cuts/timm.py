"""timm's models by name, cut at the boundaries of timm's own groups of layers (the optional extra `timm`).

timm is imported by the functions that need it, because it may not be installed.
"""

import inspect
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.fx import Node

from sweep.errors import UserError
from sweep.models.cuts.graph import Segment, Tracer, module, segments
from sweep.models.spec import TIMM


def construct(name: str, image_size: int) -> nn.Module:
    """Return timm's model with weights as its own initialisation draws them."""
    import timm  # noqa: PLC0415  # optional

    short = name.removeprefix(TIMM)
    with warnings.catch_warnings():  # of models that timm has renamed
        warnings.simplefilter("ignore")
        model: nn.Module = timm.create_model(short, pretrained=False, **arguments(name, image_size))
    return model


def arguments(name: str, image_size: int) -> dict[str, Any]:
    """Return what timm's create_model() must be given for this model, beside its name and num_classes."""
    import timm  # noqa: PLC0415  # optional

    settings: Any = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    return {"img_size": image_size} if settings.fixed_input_size else {}


def head_path(model: nn.Module, name: str) -> str:
    """Return the path of the last linear layer; raise UserError if the model ends in something else."""
    path = model.pretrained_cfg.get("classifier")  # type: ignore[operator, union-attr]
    if not isinstance(path, str) or not isinstance(model.get_submodule(path), nn.Linear):
        raise UserError(f"model.name={name.removeprefix(TIMM)}: does not end in one linear layer, so it has no head")
    return path


def cut(model: nn.Module, name: str) -> tuple[list[nn.Module], nn.Module]:
    """Return the model's parts, in forward order, and its head; raise UserError if the model cannot be cut."""
    grouped = _Grouped(model, name)
    return [module(model, segment) for segment in grouped.segments], module(model, grouped.head)


def stages(model: nn.Module, name: str) -> dict[str, int]:
    """Return the number of parts of every stage, in forward order.

    A stage begins where timm's does, or, where several tensors pass there, with the next part.
    """
    grouped = _Grouped(model, name)
    fine, coarse = grouped.fine, grouped.coarse
    stage_of = dict(sorted((fine[path], coarse[path]) for path in fine))  # of a group: its last weights'
    counts: dict[str, int] = {}
    stage, label = -1, ""
    for segment in grouped.segments:
        if stage_of[segment.groups[-1]] != stage:
            stage = stage_of[segment.groups[-1]]
            own = range(segment.groups[0], grouped.head.groups[0])
            label = _label([path for path in fine if coarse[path] == stage and fine[path] in own], counts)
        counts[label] = counts.get(label, 0) + 1
    return counts


class _Grouped:
    """A model's segments, its head's, and {parameter: number} of timm's fine and coarse groups."""

    def __init__(self, model: nn.Module, name: str) -> None:
        head = head_path(model, name)
        try:
            self.fine, self.coarse = (_groups(model, head, coarse) for coarse in (False, True))
            logits = _trace(model, self.fine, head)
        except Exception as error:  # whatever timm's Python does that torch.fx cannot follow
            reason = " ".join(str(error).split())[:150]
            raise UserError(f"model.name={name.removeprefix(TIMM)}: timm's model cannot be cut ({reason})") from error
        self.segments: list[Segment]
        self.head: Segment
        self.segments, self.head = segments(model, logits, self.fine, head, name.removeprefix(TIMM))


def _groups(model: Any, head: str, coarse: bool) -> dict[str, int]:
    """Return {parameter: number of its group}, in forward order; the head's layer alone is the last group."""
    from timm.models import group_parameters  # noqa: PLC0415  # optional

    found: dict[str, int] = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    of_head = {path for path in found if path.startswith(head + ".")}
    # What timm groups with the head (a last norm or convolution) belongs to the block before it.
    joined = {found[path] for path in of_head}
    numbers = sorted(set(found.values()) - joined)
    place = {number: index for index, number in enumerate(numbers)} | dict.fromkeys(joined, len(numbers) - 1)
    return {path: len(numbers) if path in of_head else place[number] for path, number in found.items()}


def _trace(model: nn.Module, groups: dict[str, int], head: str) -> Node:
    """Return what the forward pass returns; in its graph a module whose weights are all of one group is one step."""

    def leaf(layer: nn.Module, path: str) -> bool:
        if head.startswith(f"{path}."):
            return False
        return len({groups[f"{path}.{own}"] for own, _ in layer.named_parameters()}) <= 1

    others = list(inspect.signature(model.forward).parameters)[1:]  # such as attn_mask
    graph = Tracer(leaf).trace(model, concrete_args=dict.fromkeys(others))
    (output,) = (node for node in graph.nodes if node.op == "output")
    logits: Node = output.all_input_nodes[0]
    return logits


def _label(paths: Sequence[str], taken: dict[str, int]) -> str:
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
