"""SOURCES: pretrained weights, and the task that they come from.

pretrain trains on any data set here, once (glyphs_latin is that, on rendered letters); imagenet is downloaded by
torchvision, timm by timm; checkpoint is a file of yours.
"""

import functools
import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from sweep.config import DataConfig, ModelConfig, SourceConfig, digest
from sweep.data import glyphs
from sweep.data import task as data
from sweep.errors import UserError, unknown
from sweep.models import build as models
from sweep.models.cuts import timm as timm_models
from sweep.models.spec import TIMM
from sweep.paths import cache_folder
from sweep.plan import catalog

LEAST_MATCH = 0.95  # of the backbone's tensors that a checkpoint must have


class Weights(NamedTuple):
    """Backbone weights on the CPU, and their validation accuracy on the source's own task, where known."""

    state: models.State
    accuracy: float | None = None
    head: models.State | None = None  # weight and bias of the source's own classifier, where they came along


@dataclass(frozen=True)
class Source:
    """Where one model's pretrained weights come from, known without reading them.

    task: what they were trained on, with n_classes classes. image_size: pixels at which they were. mean, std: the
    normalisation they expect, per channel, of pixels in 0..1; random weights get the same, so that the arms differ in
    weights alone. key: names the weights by content. load: device to train on, if need be -> weights.
    """

    task: str
    n_classes: int
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    key: str
    load: Callable[[str], Weights]
    task_images: Callable[[int], data.Task] | None = None  # image size -> what they were trained on, if it is here


def resolve(config: SourceConfig, model: str) -> Source:
    """Return this model's source; raise UserError if there is none. Reads no more than is needed to name it."""
    if config.name not in SOURCES:
        raise unknown("source.name", config.name, SOURCES)
    return SOURCES[config.name](config, model)


def check(source: Source, model: ModelConfig, image_size: int) -> None:
    """Raise UserError if the source cannot serve this model at this image size."""
    if image_size != source.image_size and catalog.spec(model.full_name, image_size).fixed:
        raise UserError(
            f"data.image_size={image_size}: {model.full_name} has one position per patch, and its source {source.task} "
            f"learned them at {source.image_size} pixels; use {source.image_size}"
        )


def check_disjoint(config: SourceConfig, target: DataConfig) -> None:
    """Raise UserError if the weights would be trained on images that the target validates with.

    The task's own training images are no such images: trained on these, weights are Yosinski's selffer control.
    """
    own = config.data
    if config.name != "pretrain" or own.name != target.name or own.root != target.root:
        return
    kept, wanted = data.kept_classes(own), data.kept_classes(target)
    splits = [(each.seed, each.val_fraction, each.test_fraction) for each in (own, target)]
    if kept == wanted and splits[0] == splits[1]:
        return
    shared = sorted({*kept} & {*wanted})
    if shared:
        names = data.DATASETS[own.name].classes(own)
        raise UserError(
            f"source.data={own.name}: shares the classes {', '.join(names[each] for each in shared[:5])} with the task "
            "and would learn images that the task is validated on; give data.classes and source.data.classes without "
            "overlap, or the very same classes and splits (source=self)"
        )


# --- trained here ---------------------------------------------------------------------------------------------

PLAIN_MEAN, PLAIN_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def _pretrain(config: SourceConfig, model: str) -> Source:
    if config.epochs < 1 or config.batch_size < 2 or not isinstance(config.optimizer.lr, int | float):
        given = f"source.epochs={config.epochs}, batch_size={config.batch_size}, optimizer.lr={config.optimizer.lr}"
        raise UserError(f"{given}: use at least one epoch, two images per batch, and one number as lr")
    data.check(config.data)
    key = digest(
        {
            "format": 2,  # the file has the head, too
            "model": model,
            "images": data.fingerprint(config.data),
            "data": {k: v for k, v in asdict(config.data).items() if k not in ("root", "label", "block", "case")},
            "recipe": [config.epochs, config.batch_size, asdict(config.optimizer)],
        }
    )
    load = functools.partial(_load_pretrained, config, model, key)
    n_classes, size = len(data.classes(config.data)), config.data.image_size or glyphs.SIZE
    images = functools.partial(data.load, config.data)
    return Source(data.label(config.data), n_classes, size, PLAIN_MEAN, PLAIN_STD, key, load, images)


def pretrained_path(config: SourceConfig, model: str, key: str) -> Path:
    """Return the file of weights trained here; its name changes with the data and the recipe."""
    return cache_folder() / "sources" / f"{data.label(config.data)}-{model}-{key}.safetensors"


def _load_pretrained(config: SourceConfig, model: str, key: str, device: str) -> Weights:
    """Return the weights trained on this data; train them first if this machine has not yet.

    The file is written whole or not at all; a damaged one is trained anew; of two processes one trains, the other
    waits.
    """
    from safetensors import SafetensorError

    path, size = pretrained_path(config, model, key), config.data.image_size or glyphs.SIZE
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            try:
                return _read_pretrained(path, model, size)
            except SafetensorError as error:
                tqdm.write(f"{path} is damaged ({error}); training it anew")
        data.DATASETS[config.data.name].fetch(config.data)
        _train(config, model, device, path)
        return _read_pretrained(path, model, size)


def _read_pretrained(path: Path, model: str, size: int) -> Weights:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        accuracy = (file.metadata() or {}).get("val_accuracy")
    # Copies: a loaded file is a memory map, and whoever shortens it would crash the process.
    state, head = models.split_state({key: value.clone() for key, value in load_file(path).items()}, model, size)
    return Weights(state, None if accuracy is None else float(accuracy), head or None)


def _train(config: SourceConfig, model: str, device: str, path: Path) -> None:
    """Train on the data's training images alone; its test images stay unseen."""
    import torch
    from safetensors.torch import save_file

    from sweep.config import BatchNorm, Unit
    from sweep.models import frozen as freeze
    from sweep.train import loop as train

    start = time.perf_counter()
    size = config.data.image_size or glyphs.SIZE
    task = data.load(config.data, size)
    name = data.label(config.data)
    chosen = data.subsample(config.data, task.train.labels, 0, task.classes)

    def examples(split: data.Split) -> train.Examples:
        return train.place(torch.from_numpy(split.pool), split.rows, split.labels, torch.device(device))

    state = models.random_state(model, size, seed=0)
    network = models.build(model, state, len(task.classes), size, head_seed=0)
    models.quicken(network, model, size)
    parts, head = models.blocks(network, model, Unit.stage)
    normalize = freeze.Normalize(PLAIN_MEAN, PLAIN_STD)
    whole = freeze.Network(normalize, parts, head, 0, BatchNorm.frozen).to(device)
    with tqdm(total=config.epochs, desc=f"pretraining {model} on {name}, once", unit="epoch") as bar:

        def advance(curves: train.Curves) -> None:
            bar.set_postfix(validation=f"{curves.val_accuracy[-1]:.3f}")
            bar.update()

        curves = train.fit(
            whole,
            examples(task.train.take(chosen)),
            examples(task.val),
            recipe=train.Recipe(config.optimizer, config.epochs, config.batch_size, augment=config.data.augment),
            lr=float(config.optimizer.lr),
            seed=0,
            on_epoch=advance,
        )
    accuracy = curves.val_accuracy[-1]
    if curves.diverged:
        raise UserError(f"source={name}: the loss of {model} is not finite; use a smaller source.optimizer.lr")
    if name == "glyphs_latin" and accuracy < 0.9:
        tqdm.write(f"warning: {model} reached only {accuracy:.2f} validation accuracy on {name}; 0.9 is expected")
    trained = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    facts = {
        "val_accuracy": f"{accuracy:.4f}",
        "seconds": f"{time.perf_counter() - start:.1f}",
        "torch": torch.__version__,
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(trained, temporary, metadata=facts)
    temporary.replace(path)


# --- torchvision's ImageNet weights ---------------------------------------------------------------------------


def _imagenet(config: SourceConfig, model: str) -> Source:
    if model.startswith(TIMM):
        raise UserError(
            f"source=imagenet: torchvision has no weights for {model}; use source=timm or source=checkpoint"
        )
    from torchvision.models import get_model_weights

    weights = get_model_weights(model)
    if config.weights not in (*weights.__members__, "DEFAULT"):
        raise unknown("source.weights", config.weights, ("DEFAULT", *weights.__members__))
    chosen = weights[config.weights]
    preset = chosen.transforms()
    name = chosen.url.rsplit("/", 1)[-1]  # torchvision's file names end in a hash of the content
    size = int(preset.crop_size[0])
    load = functools.partial(_download, chosen, name, model, size)
    # Inception v3 and GoogLeNet are built for another normalisation than that of the weights' own transforms.
    own = catalog.preset(model) if model in ("inception_v3", "googlenet") else preset
    return Source("imagenet", len(chosen.meta["categories"]), size, own.mean, own.std, name, load)


def _download(weights: Any, name: str, model: str, size: int, device: str) -> Weights:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        found = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise UserError(
            f"source=imagenet: cannot download {weights.url} ({' '.join(str(error).split())}); put {name} into "
            f"{folder}, or use source=checkpoint source.path=FILE"
        ) from error
    return _fit_to_model(found, model, size, name)


# --- timm's weights -------------------------------------------------------------------------------------------


def _timm(config: SourceConfig, model: str) -> Source:
    if not model.startswith(TIMM):
        raise UserError(f"source=timm: {model} is torchvision's; add model=timm model.name={model}, or source=imagenet")
    card = catalog.card(model)
    if card.weights is None:
        raise UserError(
            f"source=timm: timm has no pretrained weights for {model}; use source=checkpoint source.path=FILE"
        )

    def load(device: str) -> Weights:
        found = timm_models.pretrained(model)
        return _fit_to_model(found, model, card.preset.image_size, card.weights or model)

    own = card.preset
    return Source(card.task, card.n_classes, own.image_size, own.mean, own.std, card.weights, load)


# --- a file ---------------------------------------------------------------------------------------------------


def _checkpoint(config: SourceConfig, model: str) -> Source:
    if not config.path:
        raise UserError("source.path is not set: source=checkpoint needs source.path=FILE (.safetensors, .pth, .pt)")
    path = Path(config.path).expanduser()
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise UserError(f"source.path={config.path}: use a .safetensors, .pth or .pt file")
    if not path.is_file():
        raise UserError(f"source.path={config.path}: no such file")
    own = catalog.preset(model)
    size = own.image_size if config.image_size is None else config.image_size
    mean, std = config.mean or own.mean, config.std or own.std
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or (key == "std" and min(values) <= 0):
            raise UserError(f"source.{key}={values}: use three numbers, one per channel, of pixels in 0..1")
    stat = path.stat()
    content = _content(path, stat.st_size, stat.st_mtime_ns)
    load = functools.partial(_read_checkpoint, path, model, size)
    return Source(config.task, config.n_classes, size, mean, std, content, load)


@functools.lru_cache
def _content(path: Path, size: int, time_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read_checkpoint(path: Path, model: str, size: int, device: str) -> Weights:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: Any
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            with warnings.catch_warnings():  # of pickle protocols; what matters is raised
                warnings.simplefilter("ignore", UserWarning)
                # weights_only: a pickle could run code as it is opened
                found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        code = re.search(r"GLOBAL (\S+)", str(error))  # what torch refused to call
        first = " ".join(str(error).split()).split(". ")[0][:200]
        if code:
            first = f"it would run {code[1]} when opened"
        elif first.startswith("Weights only"):
            first = "its pickle holds more than tensors, or is damaged"
        raise UserError(
            f"source.path={path}: not a file of plain tensors ({first}); save model.state_dict() as .safetensors"
        ) from error
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise UserError(f"source.path={path}: holds a {type(found).__name__}, not a state dict")
    return _fit_to_model(found, model, size, str(path))


def _fit_to_model(found: dict[str, Any], model: str, size: int, origin: str) -> Weights:
    """Return the backbone's tensors out of `found`, and its head's; say how many were loaded, skipped and missing.

    Prefixes of wrappers (module., backbone., ...) are ignored, and so are heads of other tasks. A tensor of another
    shape is an error, and so is a file with fewer than 95 % of the backbone's tensors; the rest stays random.
    """
    import torch

    own = models.random_state(model, size, seed=0)
    tensors = {_plain(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    loaded = {key: tensors[key] for key in own if key in tensors}
    wrong = [
        f"{key} is {tuple(value.shape)} there and {tuple(own[key].shape)} in the model"
        for key, value in loaded.items()
        if value.shape != own[key].shape
    ]
    # A count of batches is not a weight: files made before 2018, or converted ones, lack it.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    share = len(needed & loaded.keys()) / len(needed)
    if share < LEAST_MATCH:
        absent = sorted(needed - loaded.keys())
        raise UserError(
            f"{origin}: has {share:.0%} of the tensors of {model} ({', '.join(absent[:3])} and more are missing); "
            "it belongs to another architecture; use the model that it was saved from"
        )
    if wrong:
        raise UserError(f"{origin}: does not fit {model}: {'; '.join(wrong[:3])}")
    skipped = sorted(tensors.keys() - loaded.keys())
    names = f" ({', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''})" if skipped else ""
    tqdm.write(
        f"{origin}: {len(loaded)} tensors loaded, {len(skipped)} skipped{names}, {len(own) - len(loaded)} missing"
    )
    state = own | {key: value.to(own[key].dtype, copy=True) for key, value in loaded.items()}
    _, classifier = models.split_state(tensors, model, size)
    whole = {"weight", "bias"} <= classifier.keys() and classifier["weight"].dim() == 2
    return Weights(state, head={key: value.float() for key, value in classifier.items()} if whole else None)


def _plain(key: str) -> str:
    for prefix in ("_orig_mod.", "module.", "model.", "backbone."):
        key = key.removeprefix(prefix)
    return key


SOURCES: dict[str, Callable[[SourceConfig, str], Source]] = {
    "pretrain": _pretrain,
    "imagenet": _imagenet,
    "timm": _timm,
    "checkpoint": _checkpoint,
}
