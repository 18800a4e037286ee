"""Whether tensors are a model's: all that it has, in its shapes, and none that would make another network of it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from sweep.errors import UserError
from sweep.models import build
from sweep.models.places import LEAST_MATCH, Place

# What tools that count, mask or index leave inside layers: no network computes anything else for it.
_HARMLESS = (
    *("num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask", "mask_token"),
    *("total_ops", "total_params", "position_ids"),
)
STATISTICS = ("running_mean", "running_var")  # of batch normalisation
_INPUTS = {  # of transformers, outside of their blocks
    *("cls_token", "class_token", "dist_token", "distillation_token", "reg_token", "register_tokens"),
    *("absolute_pos_embed", "norm_pre", "ln_pre", "pre_layrnorm", "rope", "rel_pos_bias"),
}
_CAUSES = {  # names that tools give to tensors in place of the layer's own, and what to do about it
    r"\bbase_layer\.|\blora_": "its layers are adapted by LoRA (PEFT); merge_and_unload() before saving",
    r"\bparametrizations\.|\bweight_[guv]$": (
        "its layers are parametrized (weight_norm, spectral_norm); remove the parametrizations before saving"
    ),
    r"\bweight_(?:orig|mask)$": "its layers are pruned; torch.nn.utils.prune.remove() before saving",
}


class Wanted(NamedTuple):
    """A model and its tensors.

    own: the backbone's, random. The rest is as in build.Layout.
    """

    model: str
    image_size: int
    own: build.State
    layout: build.Layout

    @property
    def names(self) -> list[str]:
        """Return the names of all tensors, the head's last."""
        return self.layout.names

    @property
    def children(self) -> list[list[str]]:
        """Return the names of the model's children, with and without pooling."""
        return self.layout.children


def wanted(model: str, image_size: int) -> Wanted:
    """Return what a file must hold to be this model's."""
    own = build.random_state(model, image_size, seed=0)
    return Wanted(model, image_size, own, build.layout(model, image_size))


def needed(own: Iterable[str]) -> set[str]:
    """Return the names of the backbone's tensors by which a file is known to be the model's."""
    # A count of batches and an index are not weights: files made before 2018, or converted ones, lack them.
    return {each for each in own if not each.endswith(("num_batches_tracked", "relative_position_index"))}


def is_whole(place: Place, own: build.State) -> bool:
    """Return whether a place has nearly all of the backbone's tensors."""
    names = needed(own)
    return len(names & place.tensors.keys()) >= LEAST_MATCH * len(names)


def fits(place: Place, own: build.State) -> bool:
    """Return whether a place has nearly all of the backbone's tensors, in its shapes."""
    return is_whole(place, own) and not _misfits(place.tensors, own)


def is_sound(place: Place, wanted: Wanted) -> bool:
    """Return whether a place has all that the model learns, in its shapes, and nothing of another network."""
    tensors = place.tensors
    if not wanted.layout.learnt.intersection(wanted.own) <= tensors.keys() or _misfits(tensors, wanted.own):
        return False
    return not deeper(tensors, wanted) and not strange(tensors, wanted)


def completed(found: Sequence[Place], wanted: Wanted) -> list[Place]:
    """Return places, with those of averaged parameters alone given the statistics of a whole copy beside them.

    Many averages are of model.parameters(), without the running means and variances of batch normalisation.
    """
    sound = [each for each in found if is_sound(each, wanted)]
    statistics = {each for each in wanted.own if each.endswith(STATISTICS)}
    if not sound or not statistics:
        return [*found]
    plain = min(sound, key=lambda each: each.rank)
    learnt = wanted.layout.learnt - statistics
    given = {each: value for each, value in plain.tensors.items() if each in wanted.own and each not in learnt}
    made = []
    for each in found:
        whole = each._replace(tensors=given | each.tensors, statistics=plain.key or "the file itself")
        averaged = each.rank == 0 and not statistics & each.tensors.keys() and is_sound(whole, wanted)
        made.append(whole if averaged else each)
    return made


def is_grey(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether this is a first convolution of grey images where the model's takes colour."""
    return (
        value.dim() == 4
        and own.dim() == 4
        and value.shape == (own.shape[0], 1, *own.shape[2:]) != own.shape == (own.shape[0], 3, *own.shape[2:])
    )


def check(tensors: build.State, wanted: Wanted, origin: str) -> list[str]:
    """Return sentences on what is doubtful in a place's tensors; raise UserError if they are not the model's.

    tensors: under the model's names, the head's too, and whatever else lies beside them.
    """
    loaded = {each: tensors[each] for each in wanted.own if each in tensors}
    _check_match(tensors, wanted, origin)
    _check_blocks(tensors, wanted, origin)
    _check_shapes(loaded, wanted, origin)
    notes = _check_whole(tensors, wanted, origin)
    _check_strange(tensors, wanted, origin)
    _check_plain(loaded, wanted.own, origin)
    _check_finite(loaded, origin)
    return notes


def _misfits(tensors: build.State, own: build.State) -> list[str]:
    return [
        f"{each} is {tuple(tensors[each].shape)} there and {tuple(value.shape)} in the model"
        for each, value in own.items()
        if each in tensors and tensors[each].shape != value.shape and not is_grey(tensors[each], value)
    ]


def _cause(names: Iterable[str]) -> str | None:
    """Return why a file has other names than the model's, if they tell."""
    return next((said for pattern, said in _CAUSES.items() if any(re.search(pattern, each) for each in names)), None)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_match(tensors: build.State, wanted: Wanted, origin: str) -> None:
    names = needed(wanted.own)
    share = len(names & tensors.keys()) / len(names)
    if share < LEAST_MATCH:
        absent = sorted(names - tensors.keys())
        cause = _cause(tensors) or "it belongs to another architecture; use the model that it was saved from"
        raise UserError(
            f"{origin}: has {share:.0%} of the tensors of {wanted.model} ({', '.join(absent[:3])} and more are "
            f"missing); {cause}"
        )


def _check_whole(tensors: build.State, wanted: Wanted, origin: str) -> list[str]:
    """Raise UserError for absent parameters, which would stay random; return a warning for a last normalisation.

    Backbones that are saved without a head often lack that, and it starts as one that changes nothing.
    """
    own = wanted.own
    absent = [each for each in own if each in wanted.layout.learnt and each not in tensors]
    if not absent:
        return []
    last = [*own][-2:]
    plain = all(own[each].dim() == 1 and (own[each] == each.endswith("weight")).all() for each in last)
    if absent == last and plain:
        return [f"warning: {origin}: lacks {', '.join(absent)}: the last normalisation starts with weight 1 and bias 0"]
    cause = _cause(tensors) or "use a file that has them all"
    raise UserError(
        f"{origin}: lacks {_first(absent)} of {wanted.model}, which would stay random and be frozen so; {cause}"
    )


def _check_shapes(loaded: build.State, wanted: Wanted, origin: str) -> None:
    own, wrong = wanted.own, _misfits(loaded, wanted.own)
    empty = [each for each, value in loaded.items() if not value.numel() and own[each].numel()]
    if empty:
        raise UserError(
            f"{origin}: {_first(empty)} {'is' if len(empty) == 1 else 'are'} empty, as DeepSpeed ZeRO-3 leaves them; "
            "run the zero_to_fp32.py beside the file, and use what that writes"
        )
    if wrong:
        first = next(iter(own))
        stem = first in loaded and own[first].dim() == 4 and loaded[first].shape[2:] != own[first].shape[2:]
        side = f"; its stem is another one: a first convolution of {loaded[first].shape[-1]} pixels" if stem else ""
        small = ", as made for small images such as CIFAR's" if stem and loaded[first].shape[-1] == 3 else ""
        raise UserError(f"{origin}: does not fit {wanted.model}: {'; '.join(wrong[:3])}{side}{small}")


def deeper(tensors: Iterable[str], wanted: Wanted) -> list[str]:
    """Return the names of tensors in blocks like the model's that the model has not."""
    head = wanted.names[-1].rpartition(".")[0].rpartition(".")[0]  # what the head lies in, or ""
    kinds = {re.sub(r"\d+", "#", each) for each in wanted.own}
    return [
        each
        for each in tensors
        if each not in wanted.names
        and re.sub(r"\d+", "#", each) in kinds
        and not (head and each.startswith(f"{head}."))
    ]


def _check_blocks(tensors: build.State, wanted: Wanted, origin: str) -> None:
    extra = deeper(tensors, wanted)
    if extra:
        raise UserError(
            f"{origin}: has tensors of blocks that {wanted.model} has not ({', '.join(extra[:3])}); it belongs to a "
            "deeper architecture; use the model that it was saved from"
        )


def strange(tensors: Mapping[str, torch.Tensor], wanted: Wanted) -> list[str]:
    """Return the names of tensors that the model has not and that lie inside its layers, or at its input.

    A network that has them computes something else. Beside the layers there may be whatever a training needs.
    """
    names, layers = {*wanted.names}, {layer for each in wanted.own for layer in _around(each)}
    head = wanted.names[-1].rpartition(".")[0]
    around_all = {layer for layer in layers if all(each.startswith(f"{layer}.") for each in wanted.own)}
    beside = {*around_all, *_around(head)}
    transformer = any(re.search(r"(?:^|\.)(?:patch_embed|conv_proj|pos_embed)", each) for each in names)
    inputs = _INPUTS - {part for each in (*names, *wanted.layout.modules) for part in each.split(".")}
    found = []
    for each, value in tensors.items():
        if each in names or each.startswith(f"{head}.") or _is_harmless(each, value, wanted):
            continue
        within = next((layer for layer in reversed(_around(each)) if layer in layers), "")
        if (within and within not in beside) or (transformer and inputs.intersection(each.split("."))):
            found.append(each)
    return found


def _around(name: str) -> list[str]:
    """Return the names of the layers that a tensor lies in, the outermost first."""
    return [name[: dot.start()] for dot in re.finditer(r"\.", name)]


def _is_harmless(name: str, value: torch.Tensor, wanted: Wanted) -> bool:
    if not value.is_floating_point() or name.endswith(_HARMLESS) or name in wanted.layout.buffers:
        return True
    if "rope" in name.split(".") and "rope" in wanted.layout.modules:  # computed by the model, in one place for all
        return True
    return name.endswith("bias") and not value.is_meta and not value.any()


def _check_strange(tensors: build.State, wanted: Wanted, origin: str) -> None:
    extra = strange(tensors, wanted)
    if extra:
        cause = _cause(extra) or "it computes something else; use the model that it was saved from"
        raise UserError(f"{origin}: has {_first(extra)} inside the layers of {wanted.model}, which has none; {cause}")


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
    wrong = [each for each, value in loaded.items() if not is_finite(value)]
    if wrong:
        raise UserError(
            f"{origin}: {', '.join(wrong[:3])} {'holds' if len(wrong) == 1 else 'hold'} NaN or infinite numbers: the "
            "training that wrote the file diverged; use an earlier file of it"
        )
    negative = [each for each, value in loaded.items() if each.endswith("running_var") and (value < 0).any()]
    if negative:
        raise UserError(
            f"{origin}: {_first(negative)} {'is' if len(negative) == 1 else 'are'} negative: no variance; the file is "
            "damaged, or holds differences of weights; use a file of weights"
        )


def is_finite(value: torch.Tensor) -> bool:
    """Return whether all of a tensor's numbers are finite, as integers always are."""
    return not value.is_floating_point() or bool(value.isfinite().all())
