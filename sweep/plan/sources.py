"""SOURCES: where pretrained weights come from, known without reading them.

pretrain trains on any data set here, once (glyphs_latin is that, on rendered letters); imagenet is downloaded by
torchvision, timm by timm; checkpoint is a file of yours, module what the function of your model loads. run/session.py
loads what is resolved here.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.config import DataConfig, ModelConfig, SourceConfig, as_first_named, digest
from sweep.data import bands, glyphs, registry
from sweep.data import task as data
from sweep.errors import UserError, unknown
from sweep.models.shards import Card, card, file_of, shards
from sweep.models.spec import OWN, TIMM
from sweep.paths import cache_folder, write_json
from sweep.plan import catalog

# Settings of the data that do not change what is learnt.
LOOSE = ("root", "factory", "file", "label", "matched_group", "case", "rotate")
PLAIN_MEAN, PLAIN_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of weights trained here
MOST_STD = 1.5  # of pixels in 0..1 none deviates by more; a 1, which changes nothing, is usual
UNKNOWN_CLASSES = 1000  # of a file without a head
HEADS = 2  # how the classes of a file's head are counted: raised where that changes
FORMAT = 2  # of the files of weights trained here: with the head
LARGER = 64  # pixels of source=glyphs_latin_64
# Models that were seen not to learn the letters by SourceConfig's own recipe, with the share that they know then.
UNLEARNT = {"mobilenet_v2": 0.07, "resnet50": 0.09, "convnext_tiny": 0.06, "vgg11_bn": 0.04}


@dataclass(frozen=True)
class Source:
    """Where one model's pretrained weights come from.

    task: what they were trained on.
    n_classes: of that task.
    image_size: pixels at which they were trained.
    mean, std: the normalisation that they expect, per channel, of pixels in 0..1; random weights get the same, so that
        the arms differ in weights alone.
    key: names the weights by content.
    config: the settings that they were resolved from.
    model: whose weights they are, as ModelConfig.full_name.
    """

    task: str
    n_classes: int
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    key: str
    config: SourceConfig
    model: str

    @property
    def images(self) -> DataConfig | None:
        """Return the data that they are trained on, if its images are here."""
        return self.config.data if self.config.name == "pretrain" else None


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


def check_learns(source: Source) -> None:
    """Raise UserError for weights that would be trained here and are known to learn nothing that way."""
    config = source.config
    if source.model in UNLEARNT and config == SourceConfig(seed=config.seed):
        raise UserError(
            f"source={source.task}: {source.model} does not learn it at {source.image_size} pixels in {config.epochs} "
            f"epochs ({UNLEARNT[source.model]:.0%} of the letters, docs/sources.md); {other_than(source)}"
        )


def other_than(source: Source) -> str:
    """Return what to use in place of weights that are trained here and learn nothing."""
    larger = source.config.data.name == "glyphs_latin" and source.image_size < LARGER
    also = f"source=glyphs_latin_{LARGER}, whose letters are larger" if larger else "more source.epochs"
    return f"use {also}, or other weights, such as source=imagenet"


def check_disjoint(config: SourceConfig, target: DataConfig) -> None:
    """Raise UserError if the weights would be trained on images that the target validates with.

    The task's own training images are no such images: trained on these, weights are Yosinski's selffer control.
    """
    own = config.data
    same = all(getattr(own, each) == getattr(target, each) for each in ("name", "root", "factory", "file"))
    if config.name != "pretrain" or not same:
        return
    if target.channels != own.channels:
        raise UserError(
            f"data.channels={target.channels}: weights that are trained here on these images are for colour; use "
            "data.channels=3 or other weights"
        )
    kept, wanted = data.kept_classes(own), data.kept_classes(target)
    splits = [(each.seed, each.val_fraction, each.test_fraction) for each in (own, target)]
    if kept == wanted and splits[0] == splits[1]:
        return
    shared = sorted({*kept} & {*wanted})
    if shared:
        names = registry.open(own).classes()
        raise UserError(
            f"source.data={own.name}: shares the classes {', '.join(names[each] for each in shared[:5])} with the task "
            "and would learn images that the task is validated on; give data.classes and source.data.classes without "
            "overlap, or the very same classes and splits (source=self)"
        )


@contextmanager
def _of_source() -> Iterator[None]:
    """Let what is wrong with the source's data be said of its settings, not of the task's."""
    try:
        yield
    except UserError as error:
        said = str(error)
        raise type(error)(f"source.{said}" if said.startswith(("data.", "data=")) else said) from error


def _pretrain(config: SourceConfig, model: str) -> Source:
    if isinstance(config.optimizer.lr, list):
        raise UserError(f"source.optimizer.lr={config.optimizer.lr}: weights are trained once; use one number")
    if config.data.channels != bands.COLOUR:
        raise UserError(
            f"source.data.channels={config.data.channels}: weights are trained here on images in colour; leave it out, "
            "or use source=checkpoint"
        )
    with _of_source():
        data.check(config.data)
        images = data.fingerprint(config.data)
    seed = [config.seed] if config.seed else []  # the first sources had none
    key = digest(
        {
            "format": FORMAT,
            "model": model.partition("[")[0],  # where it is cut does not change what is learnt
            "images": images,
            "data": {name: value for name, value in as_first_named(asdict(config.data)).items() if name not in LOOSE},
            "recipe": [config.epochs, config.batch_size, as_first_named(asdict(config.optimizer)), *seed],
        }
    )
    n_classes, size = len(data.classes(config.data)), config.data.image_size or glyphs.SIZE
    return Source(data.label(config.data), n_classes, size, PLAIN_MEAN, PLAIN_STD, key, config, model)


def _imagenet(config: SourceConfig, model: str) -> Source:
    if model.startswith((TIMM, OWN)):
        other = "timm" if model.startswith(TIMM) else "module"
        raise UserError(
            f"source=imagenet: torchvision has no weights for {model}; use source={other} or source=checkpoint"
        )
    from torchvision.models import get_model_weights  # noqa: PLC0415

    weights = get_model_weights(model)
    if config.weights not in (*weights.__members__, "DEFAULT"):
        raise unknown("source.weights", config.weights, ("DEFAULT", *weights.__members__))
    chosen = weights[config.weights]
    preset = chosen.transforms()
    name = chosen.url.rsplit("/", 1)[-1]  # torchvision's file names end in a hash of the content
    classes, size = len(chosen.meta["categories"]), int(preset.crop_size[0])
    # Inception v3 and GoogLeNet are built for another normalisation than that of the weights' own transforms.
    own = catalog.preset(model) if model in ("inception_v3", "googlenet") else preset
    return Source("imagenet", classes, size, own.mean, own.std, name, config, model)


def _timm(config: SourceConfig, model: str) -> Source:
    if model.startswith(OWN):
        raise UserError(f"source=timm: timm has no weights for {model}; use source=module or source=checkpoint")
    if not model.startswith(TIMM):
        raise UserError(f"source=timm: {model} is torchvision's; add model=timm model.name={model}, or source=imagenet")
    card = catalog.card(model)
    if card.weights is None:
        raise UserError(
            f"source=timm: timm has no pretrained weights for {model}; use source=checkpoint source.path=FILE"
        )
    own = card.preset
    return Source(card.task, card.n_classes, own.image_size, own.mean, own.std, card.weights, config, model)


def _module(config: SourceConfig, model: str) -> Source:
    if not model.startswith(OWN):
        raise UserError(f"source=module: {model} is not yours; add model=module model.factory=FILE:NAME")
    card = catalog.card(model)
    if card.weights is None:
        raise UserError(
            f"source=module: {model} has no weights: give its function an argument pretrained=False, and load them "
            "where that is true; or use source=checkpoint source.path=FILE"
        )
    size, mean, std = _expected(config, model)
    return Source(config.task, card.n_classes, size, mean, std, card.weights, config, model)


def _expected(
    config: SourceConfig, model: str, card: Card | None = None
) -> tuple[int, Sequence[float], Sequence[float]]:
    """Return the image size, mean and deviation that weights expect.

    They are as given, else as their card says, else as the model's own weights do.
    """
    own, said = catalog.preset(model), card or Card()
    mean, std = config.mean or said.mean or own.mean, config.std or said.std or own.std
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or (key == "std" and min(values) <= 0):
            raise UserError(f"source.{key}={values}: use three numbers, one per channel, of pixels in 0..1")
    if not all(0 <= value <= 1 for value in mean) or max(std) > MOST_STD:
        key, values = ("std", std) if all(0 <= value <= 1 for value in mean) else ("mean", mean)
        raise UserError(f"source.{key}={values}: use pixels in 0..1; these look like 0..255: divide by 255")
    return config.image_size or said.image_size or own.image_size, mean, std


def _checkpoint(config: SourceConfig, model: str) -> Source:
    if not config.path:
        raise UserError("source.path is not set: source=checkpoint needs source.path=FILE, a state dict")
    path = file_of(Path(config.path).expanduser())
    size, mean, std = _expected(config, model, card(path))
    content = _content_of(path)
    if path.name.endswith(".index.json"):  # of shards, which change without it
        content = digest([content, *map(_content_of, shards(path))])
    content = content if config.key is None else f"{content}-{digest(config.key)}"
    n_classes = config.n_classes or _classes_of(path, content, config, model, size) or UNKNOWN_CLASSES
    return Source(config.task, n_classes, size, mean, std, content, config, model)


def _classes_of(path: Path, content: str, config: SourceConfig, model: str, image_size: int) -> int | None:
    """Return how many classes the head in a file has, None if it has none; the file is read once, and that is kept."""
    kept = cache_folder() / "models" / f"{FORMAT}-head-{digest([HEADS, content, model, image_size])}.json"
    try:
        found: int | None = json.loads(kept.read_text(encoding="utf-8"))["classes"]
    except (OSError, ValueError, TypeError, KeyError):
        from sweep.models import weights  # noqa: PLC0415  # brings torch, which a plan does without where this is kept

        found = weights.head_classes(path, model, image_size, config.key)
        with suppress(OSError):
            write_json(kept, {"classes": found})
    return found


def _content_of(path: Path) -> str:
    """Return a hash of the file's content as it is now."""
    stat = path.stat()
    return _content(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _content(path: Path, size: int, time_ns: int) -> str:
    """Return a hash of the file's content; read once as long as its size and time are the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


SOURCES: dict[str, Callable[[SourceConfig, str], Source]] = {
    "pretrain": _pretrain,
    "imagenet": _imagenet,
    "timm": _timm,
    "checkpoint": _checkpoint,
    "module": _module,
}
