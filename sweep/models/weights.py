"""Pretrained weights as tensors of a model: from torchvision, from timm, or from a file of yours.

No code that a file may hold is run.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torchvision.models import get_model_weights
from tqdm import tqdm

from sweep.errors import UserError
from sweep.interrupt import waiting
from sweep.models import build
from sweep.models.checkpoint import not_plain, read
from sweep.models.cuts import timm

LEAST_MATCH = 0.95  # of the backbone's tensors that a file must have


class Weights(NamedTuple):
    """Backbone weights on the CPU.

    accuracy: on the source's own task, where known.
    head: weight and bias of the source's own classifier, where they came along.
    """

    state: build.State
    accuracy: float | None = None
    head: build.State | None = None


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


def checkpoint(path: Path, model: str, image_size: int) -> Weights:
    """Return the weights of a file; raise UserError if they are not this model's."""
    found, ignored = read(path)
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        reason = f"it would run {ignored[0]} when opened" if ignored else f"it holds a {type(found).__name__}"
        raise not_plain(path, reason)
    return fit_to_model(found, model, image_size, str(path))


def fit_to_model(found: dict[str, Any], model: str, image_size: int, origin: str) -> Weights:
    """Return the backbone's tensors out of `found`, and its head's; say how many were loaded, skipped and missing.

    Prefixes of wrappers (module., backbone., ...) are ignored, and so are heads of other tasks. The few tensors that
    the file lacks stay random.
    raises: UserError for a tensor of another shape, and for less than 95 % of the backbone's tensors.
    """
    own = build.random_state(model, image_size, seed=0)
    tensors = {
        _plain(key): value for key, value in found.items() if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    loaded = {key: tensors[key] for key in own if key in tensors}
    _check_match(loaded, own, model, origin)
    skipped = sorted(tensors.keys() - loaded.keys())
    names = f" ({', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''})" if skipped else ""
    tqdm.write(
        f"{origin}: {len(loaded)} tensors loaded, {len(skipped)} skipped{names}, {len(own) - len(loaded)} missing"
    )
    state = own | {key: value.to(own[key].dtype, copy=True) for key, value in loaded.items()}
    _, classifier = build.split_state(tensors, model, image_size)
    whole = {"weight", "bias"} <= classifier.keys() and classifier["weight"].dim() == 2
    return Weights(state, head={key: value.float() for key, value in classifier.items()} if whole else None)


def _check_match(loaded: build.State, own: build.State, model: str, origin: str) -> None:
    # A count of batches is not a weight: files made before 2018, or converted ones, lack it.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    share = len(needed & loaded.keys()) / len(needed)
    if share < LEAST_MATCH:
        absent = sorted(needed - loaded.keys())
        raise UserError(
            f"{origin}: has {share:.0%} of the tensors of {model} ({', '.join(absent[:3])} and more are missing); "
            "it belongs to another architecture; use the model that it was saved from"
        )
    wrong = [
        f"{key} is {tuple(value.shape)} there and {tuple(own[key].shape)} in the model"
        for key, value in loaded.items()
        if value.shape != own[key].shape
    ]
    if wrong:
        raise UserError(f"{origin}: does not fit {model}: {'; '.join(wrong[:3])}")


def _plain(key: str) -> str:
    for prefix in ("_orig_mod.", "module.", "model.", "backbone."):
        key = key.removeprefix(prefix)
    return key
