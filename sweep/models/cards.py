"""What is read off a built model, once, for planning: see sweep.plan.catalog, which keeps it."""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import nn

from sweep.config import Unit
from sweep.errors import UserError, unknown
from sweep.models import build, stem
from sweep.models.cuts import own as own_models
from sweep.models.cuts import timm as timm_models
from sweep.models.cuts import torchvision as torchvision_models
from sweep.models.spec import OWN, TIMM, ModelSpec, Preset

MOST_WIDE = 10_000  # of embeddings; timm's weights for other classes than ImageNet-1k's know more than that
USUAL = 32  # pixels: smaller images are refused, even where a model could take them


def make(name: str, image_size: int | None) -> ModelSpec:
    """Return what planning needs to know about a model. No weight is drawn, nothing is computed.

    image_size: pixels at which one of timm's models must run; None to ask for nothing that depends on it.
    raises: UserError if the library has no such model, or it cannot be cut.
    """
    if name.startswith(OWN):
        return _own(name, image_size)
    return _timm(name, image_size) if name.startswith(TIMM) else _torchvision(name)


def timms_names() -> list[str]:
    """Return the names of timm's models, as tables show them; none where timm is not installed."""
    try:
        import timm  # noqa: PLC0415  # optional
    except ImportError:
        return []
    return [f"{TIMM}{name}" for name in timm.list_models()]


def _own(name: str, image_size: int | None) -> ModelSpec:
    """Return what a model of the user's own is; its blocks are compared with it where the image size is known."""
    setting = f"{own_models.SETTING}={own_models.parsed(name).spec}"
    first, again, other = (build.random_state(name, 0, seed) for seed in (0, 0, 1))
    if any(not torch.equal(value, again[key]) for key, value in first.items()):
        raise UserError(f"{setting}: its weights differ under one seed; draw them with torch, not with another library")
    if all(torch.equal(value, other[key]) for key, value in first.items()):
        raise UserError(
            f"{setting}: its weights are the same under every seed, so none are random; give it an argument "
            "pretrained=False, and load weights where that is true (source=module)"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = own_models.construct(name)
        images = None if image_size is None else torch.rand(2, 3, image_size, image_size)
    try:
        build.blocks(model, name, Unit.block)
    except RuntimeError as error:
        raise UserError(f"{setting}: {error}") from error
    head = model.get_submodule(own_models.head_path(model, name))
    return ModelSpec(
        stages=own_models.cut(model, name).stages,
        preset=Preset(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # as most weights expect
        task="imagenet",
        n_classes=int(head.out_features),  # type: ignore[arg-type]
        weights=name if own_models.has_weights(name) else None,
        refused=None if images is None else own_models.check(model, name, images),
        bands=image_size is None or takes_bands(model, image_size),
    )


def _torchvision(name: str) -> ModelSpec:
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UserError(f"model.name={name}: torchvision {torchvision.__version__} has no such model; use a newer one")
    weights: Any = torchvision.models.get_model_weights(name).DEFAULT
    expects = weights.transforms()
    mean, std = tuple(expects.mean), tuple(expects.std)
    skeleton: Any = torchvision_models.skeleton(name, 224)
    if hasattr(skeleton, "transform_input"):  # with weights, torchvision turns ImageNet's normalisation into this one
        mean, std = (0.5,) * 3, (0.5,) * 3
    kind = type(skeleton).__name__
    patch = int(skeleton.patch_size) if kind == "VisionTransformer" else 224 if kind == "MaxVit" else 1
    least = patch
    if patch == 1:  # weights know the least size that they were tried at; some are given as their own size
        runs = refusal(skeleton, USUAL) is None
        least = USUAL if runs else int(weights.meta["min_size"][0])
    return ModelSpec(
        stages=build.stages(name, 224),
        preset=Preset(int(expects.crop_size[0]), mean, std),
        task="imagenet",
        n_classes=len(weights.meta["categories"]),
        weights=weights.url.rsplit("/", 1)[-1],
        least=least,
        patch=patch,
        fixed=kind == "VisionTransformer",
        bands=takes_bands(skeleton, 224),
    )


def _timm(name: str, image_size: int | None) -> ModelSpec:
    import timm  # noqa: PLC0415  # optional

    short = name.removeprefix(TIMM)
    architecture = short.partition(".")[0]
    if not timm.is_model(architecture):
        raise _unknown(architecture, timm.list_models())
    tagged = timm.list_pretrained(f"{architecture}.*")
    if "." in short and short not in tagged:
        raise _unknown(short, tagged)
    settings: Any = timm.get_pretrained_cfg(short)
    native = int(settings.input_size[-1])
    tag, outputs = str(settings.tag or ""), int(settings.num_classes)
    classes = outputs if outputs == 1000 or outputs > MOST_WIDE else 0  # the others embed images, as CLIP's do
    return ModelSpec(
        stages=build.stages(name, native),
        preset=Preset(native, tuple(settings.mean), tuple(settings.std)),
        task="imagenet" if tag.endswith("in1k") or classes == 1000 else tag or short,
        n_classes=classes,
        weights=(settings.hf_hub_id or settings.url) if settings.has_weights else None,
        fixed=bool(settings.fixed_input_size),
        refused=None if image_size is None else _refusal_of_timm(name, image_size),
        bands=takes_bands(timm_models.skeleton(name, native), native),
    )


def _unknown(name: str, allowed: Sequence[str]) -> UserError:
    whole = unknown("model.name", name, allowed)
    if len(allowed) <= 20:
        return whole
    hint = str(whole).rpartition("; did you mean")  # of timm's thousand names, only the nearest is told
    return UserError(f"model.name={name}: timm has no such model" + "".join(hint[1:] if hint[1] else ""))


def _refusal_of_timm(name: str, size: int) -> str | None:
    with torch.device("meta"):
        try:
            model = timm_models.construct(name, size)
        except (AssertionError, RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
            return _reason(error)
        return refusal(model, size)


def takes_bands(model: nn.Module, size: int) -> bool:
    """Return whether a model, which is changed, takes images of a fourth channel after its first convolution does."""
    try:
        stem.widen(model, 4)
        with torch.no_grad():
            model.eval()(torch.zeros(2, 4, size, size, device=next(model.parameters()).device))
    except Exception:  # whatever its code does with images that it does not expect
        return False
    return True


def refusal(model: nn.Module, size: int) -> str | None:
    """Return why a model on the device meta cannot take images of this size, or None."""
    try:
        model.eval()(torch.empty(2, 3, size, size, device="meta"))
    except (AssertionError, RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
