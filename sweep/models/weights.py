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
from sweep.models import build, fitting
from sweep.models.checkpoint import not_plain, read
from sweep.models.conversions import conversions
from sweep.models.cuts import own as own_models
from sweep.models.cuts import timm
from sweep.models.fitting import Wanted, is_grey
from sweep.models.places import Place, dictionaries, numbered, places, within
from sweep.models.shards import card, file_of, of_transformers
from sweep.models.spec import TIMM
from sweep.models.transformers import LIBRARY as TRANSFORMERS
from sweep.models.transformers import advice

# Words in the names of matrices whose rows are no classes.
_NO_CLASSES = re.compile(r"project(?:or|ion)|prototype|bbox|decoder|predictor|encoder_k|momentum", re.IGNORECASE)


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
        fitted = fit_to_model(found, model, image_size, str(path), key)
        doubts = _other_architecture(path, model)
        print("\n".join(doubts), end="\n" * len(doubts), flush=True)
        return fitted._replace(notes=(*fitted.notes, *doubts))
    except UserError as error:
        kind = of_transformers(path)
        if kind is None or TRANSFORMERS in str(error):
            raise
        raise UserError(
            f"{error}; its config.json says {kind} of {TRANSFORMERS}, which has names of its own: use the same "
            "weights in timm's names (model=timm source=timm, or their file from the hub's timm models)"
        ) from error


def _other_architecture(path: Path, model: str) -> list[str]:
    """Return a warning if the file's card names another model of timm, as one with other padding and the same names."""
    said, asked = card(path).architecture, model.removeprefix(TIMM).partition("[")[0].partition(".")[0]
    if said is None or not model.startswith(TIMM) or re.sub(r"_\d{3}$", "", said) == re.sub(r"_\d{3}$", "", asked):
        return []  # another size alone is no other network
    return [f"warning: {path}: config.json beside it says {said}, not {asked}, which may compute something else"]


def fit_to_model(found: dict[str, Any], model: str, image_size: int, origin: str, key: str | None = None) -> Weights:
    """Return the backbone's tensors out of `found`, and its head's; say where they lay and how many were loaded.

    They may lie in any dictionary inside and under any prefix; where there are several copies, one is taken by rule:
    see choose(). Heads of other tasks are left out.
    raises: UserError for a key that is not there, and for whatever fitting.check() refuses.
    """
    wanted = fitting.wanted(model, image_size)
    own = wanted.own
    place, rest = _placed(found, wanted, origin, key)
    if not fitting.is_whole(place, own):
        hints = (advice(tensors) for _, tensors in dictionaries(found, ""))
        if hint := next(filter(None, hints), None):
            raise UserError(f"{origin}: does not fit {model}: {hint}")
    tensors, notes = _colour(_with_head(place, wanted), own, origin)
    notes += fitting.check(tensors, wanted, origin)
    loaded = {each: tensors[each] for each in own if each in tensors}
    if place.statistics is not None:
        notes.append(
            f"{origin}: {place.key} has parameters alone; its statistics of batch normalisation are those of "
            f"{place.statistics}"
        )
    notes.append(_told(place, rest, {*tensors, *place.others}, wanted, origin))
    state = own | {each: value.to(own[each].dtype, copy=True) for each, value in loaded.items()}
    _, classifier = build.split_state(tensors, model, image_size)
    whole = {"weight", "bias"} <= classifier.keys() and classifier["weight"].dim() == 2
    there = {**tensors, **place.others}
    if _is_contrastive(place):
        whole = False
    elif not whole:
        notes += _other_heads(there, own, origin)
    elif not all(map(fitting.is_finite, classifier.values())):
        whole = False
        notes.append(f"{origin}: its own classifier holds NaN or infinite numbers, and is left out")
    notes += [f"{origin}: {each} left out: its names have no dots; see source.key" for each in _undotted(found, own)]
    print("\n".join(notes), flush=True)
    known = {each: value.float() for each, value in classifier.items()} if whole else None
    return Weights(state, head=known, notes=tuple(notes))


def _told(place: Place, rest: Sequence[Place], there: set[str], wanted: Wanted, origin: str) -> str:
    """Return the sentence on which of a file's tensors are used. there: all that lie in the place's dictionary."""
    loaded = wanted.own.keys() & place.tensors.keys()
    skipped, lacking = sorted(there - loaded), sorted(fitting.needed(wanted.own) - loaded)
    shown = f" ({', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''})" if skipped else ""
    lacks = f" ({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}: as the model makes them)"
    aside = f"; not {', '.join(each.key or 'the file itself' for each in rest)}, see source.key" if rest else ""
    return (
        f"{origin}: {f'{place.title}: ' if place.title else ''}{len(loaded)} tensors loaded, {len(skipped)} skipped"
        f"{shown}, {len(wanted.own) - len(loaded)} missing{lacks if lacking else ''}{aside}"
    )


def _is_contrastive(place: Place) -> bool:
    """Return whether these are weights of MoCo: what looks like a classifier there gives a vector to compare."""
    parts = [{*name.split(".")} for name in (*place.tensors, *place.others)]
    return any("queue" in each for each in parts) or (
        "encoder_q" in place.prefix.split(".") and any("encoder_k" in each for each in parts)
    )


def _undotted(found: Any, own: build.State) -> list[str]:
    """Return the keys of averaged copies whose names are the model's without dots, as LitEma writes them."""
    bare = tuple(each.replace(".", "") for each in own)
    copies = []
    for path, tensors in dictionaries(found, ""):
        heads = dict.fromkeys(each.partition(".")[0] for each in tensors if each.count(".") == 1)
        for place in (Place(path, f"{head}." if head else "", {}, {}) for head in ("", *heads)):
            tails = [each.removeprefix(place.prefix) for each in tensors if each.startswith(place.prefix)]
            if place.rank == 0 and sum("." not in each and each.endswith(bare) for each in tails) > len(bare) / 4:
                copies.append(place.key)
    return copies


def _other_heads(tensors: build.State, own: build.State, origin: str) -> list[str]:
    """Return a sentence if the last matrix that is not of the backbone, or a copy of it, may be a classifier's."""
    for name in reversed(tensors):
        parts, value = name.split("."), tensors[name]
        of_backbone = any(".".join(parts[place:]) in own for place in range(len(parts)))
        if parts[-1] == "weight" and value.dim() == 2 and not of_backbone and not _NO_CLASSES.search(name):
            rows = len(value)
            return [f"{origin}: {name} has {rows} rows; if these are its classes, add source.n_classes={rows}"]
    return []


def head_classes(path: Path, model: str, image_size: int, key: str | None = None) -> int | None:
    """Return how many classes the head in a file has; None if there is none, or the file is not this model's."""
    try:
        found, _ = read(path)
        wanted = fitting.wanted(model, image_size)
        place, _ = _placed(found, wanted, str(path), key)
    except UserError:  # it is said where the weights are loaded
        return None
    if _is_contrastive(place):
        return None
    _, head = build.split_state(_with_head(place, wanted), model, image_size)
    return len(head["weight"]) if "weight" in head else None


def _placed(found: Any, wanted: Wanted, origin: str, key: str | None) -> tuple[Place, list[Place]]:
    own, names = wanted.own, wanted.names
    roots = {each.split(".")[0] for each in own}
    inner = map(within, roots) if len(roots) == 1 else ()
    namings = [build.current_name(wanted.model), *map(numbered, wanted.children), *inner]
    best, rest = choose(fitting.completed(places(found, names, namings), wanted), wanted, origin, key)
    needed = fitting.needed(own)
    known = len(needed & best.tensors.keys()) if fitting.fits(best, own) else 0
    if key is None and known < len(needed):
        for how, tensors in conversions(found, wanted.model, wanted.image_size, own):
            there = [place._replace(path=how) for place in places(tensors, names, [str])]
            other, _ = choose(there, wanted, origin, None)
            if fitting.fits(other, own) and len(needed & other.tensors.keys()) > known:
                return other, []
    return best, rest


def choose(found: list[Place], wanted: Wanted, origin: str, key: str | None) -> tuple[Place, list[Place]]:
    """Return the place to use, and the others that would do.

    Averaged weights (EMA, teacher) come before plain ones, and these before a copy (key, target, momentum, student);
    the first in the file counts where there are several, and one of another network only where there is no other.
    key: words of the path and prefix, joined by dots, overrides.
    """
    if key is not None:
        chosen = [each for each in found if f".{key.strip('.')}." in f".{each.key}."]
        if not chosen:
            listed = ", ".join(each.key for each in found if each.key) or "none with a name"
            raise UserError(f"source.key={key}: {origin} has no such weights of {wanted.model}; it has {listed}")
        found = chosen
    found = found or [Place("", "", {}, {})]  # which is refused as another architecture
    needed = fitting.needed(wanted.own)
    whole = [each for each in found if fitting.is_whole(each, wanted.own)]
    fit = [each for each in whole if fitting.fits(each, wanted.own)] or whole
    if not fit:
        return max(found, key=lambda each: len(needed & each.tensors.keys())), []
    fit = [each for each in fit if fitting.is_sound(each, wanted)] or fit
    best = min(fit, key=lambda each: each.rank)
    return best, [each for each in fit if each is not best]


def _with_head(place: Place, wanted: Wanted) -> build.State:
    """Return the place's tensors, and those of the head that lie beside it: backbone.conv1.weight and fc.weight."""
    parts = place.prefix.split(".")
    outer = [".".join([*parts[:count], ""]) if count else "" for count in range(len(parts))]
    beside = {
        each: place.others[before + each]
        for before in outer
        for each in wanted.names
        if each not in wanted.own and each not in place.tensors and before + each in place.others
    }
    return place.tensors | beside


def _colour(tensors: build.State, own: build.State, origin: str) -> tuple[build.State, list[str]]:
    """Return the tensors with a grey first convolution spread over three channels, and a sentence on it.

    A grey image gives what it gave.
    """
    grey = [each for each, value in tensors.items() if each in own and is_grey(value, own[each])]
    notes = [f"{origin}: {each} is of grey images; spread over three channels, a third each" for each in grey]
    return tensors | {each: tensors[each].float().expand(own[each].shape) / 3 for each in grey}, notes
