"""Pretrained weights as tensors of a model: from torchvision, from timm, or from a file of yours.

No code that a file may hold is run.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torchvision.models import get_model_weights

from sweep.errors import UserError
from sweep.interrupt import waiting
from sweep.models import build
from sweep.models.checkpoint import not_plain, read
from sweep.models.conversions import conversions
from sweep.models.cuts import own as own_models
from sweep.models.cuts import timm
from sweep.models.places import LEAST_MATCH, Place, dictionaries, numbered, places, within
from sweep.models.shards import file_of, of_transformers
from sweep.models.transformers import LIBRARY as TRANSFORMERS
from sweep.models.transformers import advice


class Weights(NamedTuple):
    """Backbone weights on the CPU.

    accuracy: on the source's own task, where known.
    head: weight and bias of the source's own classifier, where they came along.
    notes: which of a file's tensors they are, a sentence each.
    """

    state: build.State
    accuracy: float | None = None
    head: build.State | None = None
    notes: tuple[str, ...] = ()


def imagenet(weights: str, model: str, image_size: int) -> Weights:
    """Return torchvision's weights of this name, downloaded once and kept by torch; raise UserError if offline."""
    chosen: Any = get_model_weights(model)[weights]
    name = chosen.url.rsplit("/", 1)[-1]
    try:
        with waiting():
            found = chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise UserError(
            f"source=imagenet: cannot download {chosen.url} ({' '.join(str(error).split())}); put {name} into "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}, or use source=checkpoint source.path=FILE"
        ) from error
    return fit_to_model(found, model, image_size, name)


def of_timm(model: str, image_size: int, origin: str) -> Weights:
    """Return timm's own weights, downloaded once and kept by timm; raise UserError if offline."""
    with waiting():
        found = timm.pretrained(model)
    return fit_to_model(found, model, image_size, origin)


def of_module(model: str, image_size: int) -> Weights:
    """Return the weights that the user's own function gives its model where it is called with pretrained=True."""
    with waiting():
        found = own_models.construct(model, pretrained=True).state_dict()
    return fit_to_model(found, model, image_size, f"{own_models.parsed(model).spec}, pretrained=True")


def checkpoint(path: Path, model: str, image_size: int, key: str | None = None) -> Weights:
    """Return the weights of a file, or of a folder of the hub; raise UserError if they are not this model's.

    key: see choose().
    """
    path = file_of(path)
    found, ignored = read(path)
    if not isinstance(found, dict):
        reason = f"it would run {ignored[0]} when opened" if ignored else f"it holds a {type(found).__name__}"
        raise not_plain(path, reason)
    try:
        return fit_to_model(found, model, image_size, str(path), key)
    except UserError as error:
        kind = of_transformers(path)
        if kind is None or TRANSFORMERS in str(error):
            raise
        raise UserError(
            f"{error}; its config.json says {kind} of {TRANSFORMERS}, which has names of its own: use the same "
            "weights in timm's names (model=timm source=timm, or their file from the hub's timm models)"
        ) from error


def fit_to_model(found: dict[str, Any], model: str, image_size: int, origin: str, key: str | None = None) -> Weights:
    """Return the backbone's tensors out of `found`, and its head's; say where they lay and how many were loaded.

    They may lie in any dictionary inside and under any prefix; where there are several copies, one is taken by rule:
    see choose(). The few tensors that it lacks stay random, and heads of other tasks are left out.
    raises: UserError for weights of another architecture, for numbers that are none, and for a key that is not there.
    """
    own = build.random_state(model, image_size, seed=0)
    names, _ = build.layout(model, image_size)
    place, rest = _placed(found, own, model, image_size, origin, key)
    if not _is_whole(place, own):
        hints = (advice(tensors) for _, tensors in dictionaries(found, ""))
        if hint := next(filter(None, hints), None):
            raise UserError(f"{origin}: does not fit {model}: {hint}")
    tensors, notes = _colour(_with_head(place, names, own), own, origin)
    loaded = {each: tensors[each] for each in own if each in tensors}
    _check_match(loaded, own, model, origin)
    _check_blocks(tensors, names, own, model, origin)
    _check_shapes(loaded, own, model, origin)
    _check_plain(loaded, own, origin)
    _check_finite(loaded, origin)
    skipped = sorted({*tensors, *place.others} - {*loaded})
    shown = f" ({', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''})" if skipped else ""
    lacking = sorted(_needed(own) - loaded.keys())
    lacks = f" ({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}: random)" if lacking else ""
    aside = f"; not {', '.join(each.key or 'the file itself' for each in rest)}, see source.key" if rest else ""
    notes.append(
        f"{origin}: {f'{place.title}: ' if place.title else ''}{len(loaded)} tensors loaded, {len(skipped)} skipped"
        f"{shown}, {len(own) - len(loaded)} missing{lacks}{aside}"
    )
    state = own | {each: value.to(own[each].dtype, copy=True) for each, value in loaded.items()}
    _, classifier = build.split_state(tensors, model, image_size)
    whole = {"weight", "bias"} <= classifier.keys() and classifier["weight"].dim() == 2
    known = {each: value.float() for each, value in classifier.items()} if whole else None
    notes += [] if known else _other_heads({**tensors, **place.others}, own, origin)
    print("\n".join(notes), flush=True)
    return Weights(state, head=known, notes=tuple(notes))


def _other_heads(tensors: build.State, own: build.State, origin: str) -> list[str]:
    """Return a sentence if the last matrix that is not of the backbone, or a copy of it, may be a classifier's."""
    for name in reversed(tensors):
        parts, value = name.split("."), tensors[name]
        of_backbone = any(".".join(parts[place:]) in own for place in range(len(parts)))
        if parts[-1] == "weight" and value.dim() == 2 and not of_backbone:
            rows = len(value)
            return [f"{origin}: {name} has {rows} rows; if these are its classes, add source.n_classes={rows}"]
    return []


def head_classes(path: Path, model: str, image_size: int, key: str | None = None) -> int | None:
    """Return how many classes the head in a file has; None if there is none, or the file is not this model's."""
    try:
        found, _ = read(path)
        own = build.random_state(model, image_size, seed=0)
        place, _ = _placed(found, own, model, image_size, str(path), key)
    except UserError:  # it is said where the weights are loaded
        return None
    _, head = build.split_state(_with_head(place, build.layout(model, image_size)[0], own), model, image_size)
    return len(head["weight"]) if "weight" in head else None


def _placed(
    found: Any, own: build.State, model: str, image_size: int, origin: str, key: str | None
) -> tuple[Place, list[Place]]:
    names, children = build.layout(model, image_size)
    roots = {each.split(".")[0] for each in own}
    namings = [build.current_name(model), *map(numbered, children), *(map(within, roots) if len(roots) == 1 else ())]
    best, rest = choose(places(found, names, namings), own, origin, model, key)
    needed = _needed(own)
    known = len(needed & best.tensors.keys()) if _fits(best, own) else 0
    if key is None and known < len(needed):
        for how, tensors in conversions(found, model, image_size, own):
            there = [place._replace(path=how) for place in places(tensors, names, [str])]
            other, _ = choose(there, own, origin, model, None)
            if _fits(other, own) and len(needed & other.tensors.keys()) > known:
                return other, []
    return best, rest


def choose(found: list[Place], own: build.State, origin: str, model: str, key: str | None) -> tuple[Place, list[Place]]:
    """Return the place to use, and the others that would do.

    Averaged weights (EMA, teacher) come before plain ones, and these before a copy (key, target, momentum, student);
    the first in the file counts where there are several. key: words of the path and prefix, joined by dots, overrides.
    """
    if key is not None:
        chosen = [each for each in found if f".{key.strip('.')}." in f".{each.key}."]
        if not chosen:
            listed = ", ".join(each.key for each in found if each.key) or "none with a name"
            raise UserError(f"source.key={key}: {origin} has no such weights of {model}; it has {listed}")
        found = chosen
    found = found or [Place("", "", {}, {})]  # which is refused as another architecture
    needed = _needed(own)
    whole = [each for each in found if _is_whole(each, own)]
    fitting = [each for each in whole if _fits(each, own)] or whole
    if not fitting:
        return max(found, key=lambda each: len(needed & each.tensors.keys())), []
    best = min(fitting, key=lambda each: each.rank)
    return best, [each for each in fitting if each is not best]


def _needed(own: build.State) -> set[str]:
    # A count of batches and an index are not weights: files made before 2018, or converted ones, lack them.
    return {each for each in own if not each.endswith(("num_batches_tracked", "relative_position_index"))}


def _is_whole(place: Place, own: build.State) -> bool:
    needed = _needed(own)
    return len(needed & place.tensors.keys()) >= LEAST_MATCH * len(needed)


def _fits(place: Place, own: build.State) -> bool:
    return _is_whole(place, own) and not _misfits(place.tensors, own)


def _with_head(place: Place, names: Sequence[str], own: build.State) -> build.State:
    """Return the place's tensors, and those of the head that lie beside it: backbone.conv1.weight and fc.weight."""
    parts = place.prefix.split(".")
    outer = [".".join([*parts[:count], ""]) if count else "" for count in range(len(parts))]
    beside = {
        each: place.others[before + each]
        for before in outer
        for each in names
        if each not in own and each not in place.tensors and before + each in place.others
    }
    return place.tensors | beside


def _is_grey(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether this is a first convolution of grey images where the model's takes colour."""
    return (
        value.dim() == 4
        and own.dim() == 4
        and value.shape == (own.shape[0], 1, *own.shape[2:]) != own.shape == (own.shape[0], 3, *own.shape[2:])
    )


def _colour(tensors: build.State, own: build.State, origin: str) -> tuple[build.State, list[str]]:
    """Return the tensors with a grey first convolution spread over three channels, and a sentence on it.

    A grey image gives what it gave.
    """
    grey = [each for each, value in tensors.items() if each in own and _is_grey(value, own[each])]
    notes = [f"{origin}: {each} is of grey images; spread over three channels, a third each" for each in grey]
    return tensors | {each: tensors[each].float().expand(own[each].shape) / 3 for each in grey}, notes


def _misfits(tensors: build.State, own: build.State) -> list[str]:
    return [
        f"{each} is {tuple(tensors[each].shape)} there and {tuple(value.shape)} in the model"
        for each, value in own.items()
        if each in tensors and tensors[each].shape != value.shape and not _is_grey(tensors[each], value)
    ]


def _check_match(loaded: build.State, own: build.State, model: str, origin: str) -> None:
    needed = _needed(own)
    share = len(needed & loaded.keys()) / len(needed)
    if share < LEAST_MATCH:
        absent = sorted(needed - loaded.keys())
        raise UserError(
            f"{origin}: has {share:.0%} of the tensors of {model} ({', '.join(absent[:3])} and more are missing); "
            "it belongs to another architecture; use the model that it was saved from"
        )


def _check_shapes(loaded: build.State, own: build.State, model: str, origin: str) -> None:
    wrong = _misfits(loaded, own)
    if wrong:
        first = next(iter(own))
        stem = first in loaded and own[first].dim() == 4 and loaded[first].shape[2:] != own[first].shape[2:]
        side = f"; its stem is another one: a first convolution of {loaded[first].shape[-1]} pixels" if stem else ""
        small = ", as made for small images such as CIFAR's" if stem and loaded[first].shape[-1] == 3 else ""
        raise UserError(f"{origin}: does not fit {model}: {'; '.join(wrong[:3])}{side}{small}")


def _check_blocks(tensors: build.State, names: Sequence[str], own: build.State, model: str, origin: str) -> None:
    """Raise UserError if there are blocks like the model's that the model has not: those of a deeper one."""
    head = names[-1].rpartition(".")[0].rpartition(".")[0]  # what the head lies in, or ""
    kinds = {re.sub(r"\d+", "#", each) for each in own}
    extra = [
        each
        for each in tensors
        if each not in names and re.sub(r"\d+", "#", each) in kinds and not (head and each.startswith(f"{head}."))
    ]
    if extra:
        raise UserError(
            f"{origin}: has tensors of blocks that {model} has not ({', '.join(extra[:3])}); it belongs to a deeper "
            "architecture; use the model that it was saved from"
        )


def _check_plain(loaded: build.State, own: build.State, origin: str) -> None:
    """Raise UserError for tensors that are no plain floats where the model has such: to read them takes more."""
    for name, value in loaded.items():
        if not own[name].is_floating_point():
            continue
        what = "quantised" if value.is_quantized or not value.is_floating_point() or value.itemsize == 1 else ""
        what = "sparse" if value.layout is not torch.strided else "without numbers" if value.is_meta else what
        if what:
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(f"{origin}: {name} is {what} ({kind}); save the weights as plain floats")


def _check_finite(loaded: build.State, origin: str) -> None:
    wrong = [each for each, value in loaded.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        raise UserError(
            f"{origin}: {', '.join(wrong[:3])} {'holds' if len(wrong) == 1 else 'hold'} NaN or infinite numbers: the "
            "training that wrote the file diverged; use an earlier file of it"
        )
