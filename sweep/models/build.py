"""A model of a library by its name: with these weights, a new head, and cut into blocks."""

import functools
import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sweep.config import Unit
from sweep.models import convolutions
from sweep.models.convolutions import Window
from sweep.models.cuts import own as own_models
from sweep.models.cuts import timm as timm_models
from sweep.models.cuts import torchvision as torchvision_models
from sweep.models.cuts.graph import assert_covered, set_submodule
from sweep.models.spec import OWN, TIMM

State = dict[str, Tensor]


def random_state(name: str, image_size: int, seed: int) -> State:
    """Return the backbone weights that the library's own initialisation draws under this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone_state(_construct(name, image_size), name)


def backbone_state(model: nn.Module, name: str) -> State:
    """Return the model's parameters and buffers without its classifiers, under its library's names."""
    heads = tuple(f"{path}." for path in _classifiers(model, name))
    return {key: value for key, value in model.state_dict().items() if not key.startswith(heads)}


def split_state(state: Mapping[str, Tensor], name: str, image_size: int) -> tuple[State, State]:
    """Return (backbone, head): tensors under the library's names, and those of the last layer, such as weight and bias.

    The last layers of auxiliary heads are in neither, nor are those of heads that are averaged.
    """
    paths = _classifiers(_skeleton(name, image_size), name)
    head, every = f"{paths[0]}.", tuple(f"{path}." for path in paths)
    backbone = {key: value for key, value in state.items() if not key.startswith(every)}
    if name.startswith(TIMM) and len(paths) > 1:
        return backbone, {}
    return backbone, {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}


class Layout(NamedTuple):
    """What a model consists of, by name.

    names: of all tensors, the head's last. children: of the model, with and without pooling.
    learnt: parameters, and the statistics of batch normalisation. buffers: all, also those of no state dict.
    modules: all.
    """

    names: list[str]
    children: list[list[str]]
    learnt: frozenset[str]
    buffers: frozenset[str]
    modules: frozenset[str]


@functools.lru_cache(maxsize=16)
def layout(name: str, image_size: int) -> Layout:
    """Return the names of a model's parts; no weight of a library's model is drawn."""
    model = _skeleton(name, image_size)
    head = f"{_classifiers(model, name)[0]}."
    names = sorted(model.state_dict(), key=lambda key: key.startswith(head))
    children = dict(model.named_children())
    unpooled = [path for path, layer in children.items() if not isinstance(layer, nn.MaxPool2d)]
    parameters = {each for each, _ in model.named_parameters(remove_duplicate=False)}
    learnt = parameters.union(each for each in names if each.endswith(("running_mean", "running_var")))
    buffers = frozenset(each for each, _ in model.named_buffers(remove_duplicate=False))
    modules = frozenset(each for each, _ in model.named_modules())
    return Layout(names, [list(children), unpooled], frozenset(learnt), buffers, modules)


def current_name(name: str) -> Callable[[str], str]:
    """Return what gives a tensor's name of today for one that the library's files may have."""
    return str if name.startswith((TIMM, OWN)) else torchvision_models.current_name


def build(name: str, state: Mapping[str, Tensor], n_classes: int, image_size: int, head_seed: int) -> nn.Module:
    """Return the library's own model with a copy of these backbone weights and new classifiers for the task's classes.

    state: as from backbone_state(); exactly the backbone's tensors. head_seed: fixes the head's initialisation
    (torch's default for such a layer), the same at every depth and for every source.
    """
    if name.startswith((TIMM, OWN)):  # these also have buffers that are in no state dict
        with torch.random.fork_rng(devices=[]):
            model = _construct(name, image_size)
    else:
        model = _skeleton(name, image_size)
    own = replace_classifiers(model, name, n_classes, head_seed)
    model.load_state_dict({key: value.detach().clone() for key, value in state.items()} | own, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def replace_classifiers(model: nn.Module, name: str, n_classes: int, head_seed: int) -> State:
    """Give a model new classifiers for so many classes, and return their tensors under the model's names."""
    own: State = {}
    for number, path in enumerate(_classifiers(model, name)):
        layer = _classifier(model.get_submodule(path), n_classes, head_seed ^ number)
        set_submodule(model, path, layer)
        own |= {f"{path}.{key}": value for key, value in layer.state_dict().items()}
    return own


def linear(in_features: int, n_classes: int, seed: int) -> nn.Linear:
    """Return a new linear head; a seed gives the same one for every source and depth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(in_features, n_classes)


def _classifier(old: nn.Module, n_classes: int, seed: int) -> nn.Module:
    """Return a new layer of the old one's kind."""
    if isinstance(old, nn.Linear) and old.bias is not None:
        return linear(old.in_features, n_classes, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(old, nn.Linear):
            return nn.Linear(old.in_features, n_classes, bias=False)
        if isinstance(old, nn.Conv2d) and old.kernel_size == (1, 1):
            return nn.Conv2d(old.in_channels, n_classes, 1)
    raise TypeError(f"a head is a linear layer or a convolution of one pixel, not {old}")


def _classifiers(model: nn.Module, name: str) -> list[str]:
    """Return the paths of the layers that give one number per class: the head first, then those of auxiliary heads."""
    if name.startswith(OWN):
        return [own_models.head_path(model, name)]
    if name.startswith(TIMM):
        return timm_models.head_paths(model, name)
    return [torchvision_models.head_path(model), *torchvision_models.auxiliary_paths(model)]


def blocks(model: nn.Module, name: str, unit: Unit, image_size: int | None = None) -> tuple[list[nn.Module], nn.Module]:
    """Return the model's blocks, in forward order, and its head: head(block_n(...block_1(images))) is the model.

    The modules are the model's own: training a block trains the model. For most models the head is the last linear
    layer and the dropout before it. image_size: pixels of the images; one of timm's models that looks at their size is
    cut for that size alone.
    raises: UserError if the model cannot be cut, RuntimeError if a parameter or buffer is in no block, or in two.
    """
    unused: Collection[str] = ()
    if name.startswith(OWN):
        parts, head, counts = own_models.cut(model, name)
    elif name.startswith(TIMM):
        assert image_size is not None, "timm's models are cut for one image size"
        (parts, head), counts = timm_models.cut(model, name, image_size), timm_models.stages(name, image_size)
        unused = timm_models.find(name, image_size).unused
    else:
        (parts, head), counts = torchvision_models.cut(model, name), dict(_torchvision_stages(name))
    assert_covered(model, [*parts, head], unused)
    if unit is Unit.block:
        return parts, head
    rest = iter(parts)
    return [nn.Sequential(*itertools.islice(rest, count)) for count in counts.values()], head


def stages(name: str, image_size: int) -> dict[str, int]:
    """Return the number of blocks of every stage, in forward order, with freeze.unit=block; no weight is drawn."""
    if name.startswith(TIMM):
        return timm_models.stages(name, image_size)
    return dict(_torchvision_stages(name))


@functools.lru_cache(maxsize=128)
def _torchvision_stages(name: str) -> tuple[tuple[str, int], ...]:
    size = 224  # pixels, which all of them take; the stages are the same at any other
    return tuple(torchvision_models.stages(_skeleton(name, size), name, size).items())


class Cost(NamedTuple):
    """What one image costs in a block. flops: of the forward pass; outputs: how many numbers come out."""

    flops: float
    outputs: int


@functools.lru_cache(maxsize=32)
def costs(name: str, unit: Unit, image_size: int) -> tuple[Cost, ...]:
    """Return the cost of every block, in forward order, and of the head with the library's own classes."""
    model = _skeleton(name, image_size).train()  # in evaluation, attention is one step that is not counted
    parts, head = blocks(model, name, unit)
    x = torch.zeros(2, 3, image_size, image_size, device=next(model.parameters()).device)
    found = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for part in (*parts, head):
            with FlopCounterMode(display=False) as counter:
                x = part(x)
            found.append(Cost(counter.get_total_flops() / len(x), x[0].numel()))
    return tuple(found)


def library_arguments(name: str, image_size: int) -> dict[str, Any]:
    """Return what the library's own constructor must be given for this model, beside its name and num_classes."""
    if name.startswith(OWN):
        return {}
    if name.startswith(TIMM):
        return timm_models.arguments(name, image_size)
    return torchvision_models.arguments(name, image_size)


def quicken(model: nn.Module, name: str, image_size: int) -> None:
    """Give the model convolutions that train faster on a CPU; convolutions.restore() gives back the library's own."""
    convolutions.replace(model, faster_convolutions(name, image_size))


@functools.lru_cache(maxsize=16)
def faster_convolutions(name: str, image_size: int) -> Mapping[str, Window | None]:
    """Return which convolutions of a model have a faster way at this image size: see convolutions.choose."""
    if name.startswith(OWN):  # what its code does with the classes of its layers is not known
        return {}
    return convolutions.choose(_skeleton(name, image_size), image_size)


def _skeleton(name: str, image_size: int) -> nn.Module:
    """Return the model on the device meta: weights would be replaced at once, and to draw them takes time.

    One of the user's has weights: what its code computes on the way is not known.
    """
    if name.startswith(OWN):
        with torch.random.fork_rng(devices=[]):
            return own_models.construct(name)
    if not name.startswith(TIMM):
        return torchvision_models.skeleton(name, image_size)
    return timm_models.skeleton(name, image_size)


def _construct(name: str, image_size: int) -> nn.Module:
    if name.startswith(OWN):
        return own_models.construct(name)
    if name.startswith(TIMM):
        return timm_models.construct(name, image_size)
    return torchvision_models.construct(name, image_size)
