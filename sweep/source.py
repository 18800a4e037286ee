"""SOURCES: pretrained weights, and the task they come from. The embedded source is trained here, once."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock
from tqdm import tqdm

from sweep import glyphs, models
from sweep.config import ModelConfig, OptimizerConfig, SourceConfig, UserError, digest, unknown


@dataclass(frozen=True)
class Source:
    """One entry of SOURCES.

    mean, std: the normalisation its weights expect, per channel, of pixels in 0..1; also used for random weights, so
    that the arms differ in weights alone. image_size: pixels at which it was trained.
    """

    data: str
    n_classes: int
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    key: Callable[[str], str]  # model name -> what its weights are, by content
    load: Callable[[str, str], models.State]  # (model name, device) -> backbone weights


def check(config: SourceConfig, model: ModelConfig, image_size: int) -> None:
    """Raise UserError if the source is unknown or cannot serve this model at this image size."""
    if config.name not in SOURCES:
        raise unknown("source.name", config.name, SOURCES)
    trained = SOURCES[config.name].image_size
    if models.MODELS[model.name].family == "vit" and image_size != trained:
        raise UserError(
            f"data.image_size={image_size}: {model.name} has one position per patch, and source={config.name} learned "
            f"them at {trained} pixels; use {trained}"
        )


def cache_folder() -> Path:
    """Return where trained sources are kept: $SWEEP_CACHE, else the user's cache folder of the system."""
    return Path(os.environ.get("SWEEP_CACHE") or platformdirs.user_cache_dir("freeze-sweep"))


@dataclass(frozen=True)
class Recipe:
    """How the embedded source is trained; part of its key, so that a change here trains it anew."""

    per_class: int = 200  # images of each of 26 letters
    epochs: int = 5
    batch_size: int = 128
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    rendering: int = glyphs.VERSION


LATIN_RECIPE = Recipe()
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def _latin_key(model: str) -> str:
    return digest(["glyphs_latin", model, asdict(LATIN_RECIPE)])


def latin_path(model: str) -> Path:
    """Return the file of the embedded source's weights; its name changes with the recipe and the rendering."""
    return cache_folder() / "sources" / f"glyphs_latin-{model}-{_latin_key(model)}.safetensors"


def _load_latin(model: str, device: str) -> models.State:
    """Return the weights trained on 26 Latin capitals; train them first if this machine has not yet.

    The file is written whole or not at all; a damaged one is trained anew; of two processes one trains, the other
    waits.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = latin_path(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            try:
                return load_file(path)
            except SafetensorError as error:
                tqdm.write(f"{path} is damaged ({error}); training it anew")
        _train_latin(model, device, path)
        return load_file(path)


def _train_latin(model: str, device: str, path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from sweep import freeze, train
    from sweep.config import BatchNorm, Unit

    def examples(per_class: int, split: str) -> train.Examples:
        images, labels = glyphs.characters(glyphs.LATIN, per_class, split)
        return train.Examples(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))

    recipe, start = LATIN_RECIPE, time.perf_counter()
    network = models.build(model, models.random_state(model, glyphs.SIZE, seed=0), len(glyphs.LATIN), glyphs.SIZE, 0)
    parts, head = models.blocks(network, model, Unit.stage)
    whole = freeze.Network(freeze.Normalize(MEAN, STD), parts, head, 0, BatchNorm.frozen).to(device)
    with tqdm(total=recipe.epochs, desc=f"pretraining {model} on glyphs_latin, once", unit="epoch") as bar:

        def advance(curves: train.Curves) -> None:
            bar.set_postfix(validation=f"{curves.val_accuracy[-1]:.3f}")
            bar.update()

        curves = train.fit(
            whole,
            examples(recipe.per_class, "train"),
            examples(40, "validation"),
            optimizer=OptimizerConfig(recipe.optimizer, weight_decay=recipe.weight_decay),
            lr=recipe.lr,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            seed=0,
            on_epoch=advance,
        )
    accuracy = curves.val_accuracy[-1]
    if curves.diverged:
        raise UserError(
            f"source=glyphs_latin: {model} did not learn it (loss is not finite); use another model or source"
        )
    if accuracy < 0.9:
        tqdm.write(
            f"warning: {model} reached only {accuracy:.2f} validation accuracy on glyphs_latin (0.9 is expected)"
        )
    state = {key: value.cpu().contiguous() for key, value in models.backbone_state(network, model).items()}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(
        state,
        temporary,
        metadata={
            "val_accuracy": f"{accuracy:.4f}",
            "seconds": f"{time.perf_counter() - start:.1f}",
            "torch": torch.__version__,
        },
    )
    temporary.replace(path)


SOURCES: dict[str, Source] = {
    "glyphs_latin": Source("26 Latin capitals", len(glyphs.LATIN), glyphs.SIZE, MEAN, STD, _latin_key, _load_latin),
}
