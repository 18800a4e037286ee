"""Weights that are trained here, once, on any data set, and kept in the user's cache folder."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sweep.config import BatchNorm, Unit
from sweep.data import registry
from sweep.data import task as data
from sweep.data.types import Split, Task
from sweep.errors import UserError
from sweep.models import build
from sweep.models.frozen import Network, Normalize
from sweep.models.weights import Weights
from sweep.paths import cache_folder, locked
from sweep.plan.sources import Source
from sweep.run import machine
from sweep.run.tick import Hear, Tick, telling, unheard
from sweep.train.examples import Examples, Splits, place
from sweep.train.loop import Recipe, fit

LEAST_ACCURACY = {"glyphs_latin": 0.9}  # on the source's own validation images, where it is known what can be reached

NEAR_CHANCE = 0.05  # of the way from chance to 1: weights of a lower accuracy have not learnt their source


def path(source: Source) -> Path:
    """Return the file of weights trained here; its name changes with the data and the recipe."""
    model = source.model.partition("[")[0]  # without the user's regular expressions; the key knows them
    return cache_folder() / "sources" / f"{source.task}-{model}-{source.key}.safetensors"


def load(source: Source, device: torch.device, read: Callable[[], Task], hear: Hear = unheard) -> Weights:
    """Return the weights trained on the source's data; train them first if this machine has not yet.

    The file is written whole or not at all; a damaged one is trained anew; of two processes one trains, the other
    waits.
    read: gives the data, and is not called if the weights are there.
    hear: is told of every epoch.
    """
    file = path(source)
    with locked(file.with_suffix(".lock")):
        if file.exists():
            try:
                return _read(source, file)
            except SafetensorError as error:
                print(f"{file} is damaged ({error}); training it anew", flush=True)
        registry.open(source.config.data).fetch()
        _train(source, device, read(), file, hear)
        return _read(source, file)


def _require_learnt(source: Source, accuracy: float) -> None:
    """Raise UserError if the accuracy on a source that can be learnt is near chance: it is not worth freezing."""
    chance = 1 / source.n_classes
    if source.task in LEAST_ACCURACY and accuracy < chance + NEAR_CHANCE * (1 - chance):
        raise UserError(
            f"source={source.task}: {source.model} has not learnt it (validation accuracy {accuracy:.2f}, chance "
            f"{chance:.2f}); change source.epochs or source.optimizer.lr, or use other weights, such as source=imagenet"
        )


def _read(source: Source, file: Path) -> Weights:
    with safe_open(file, "pt") as opened:
        accuracy = (opened.metadata() or {}).get("val_accuracy")
    if accuracy is not None:
        _require_learnt(source, float(accuracy))
    # Copies: a loaded file is a memory map, and whoever shortens it would crash the process.
    tensors = {key: value.clone() for key, value in load_file(file).items()}
    state, head = build.split_state(tensors, source.model, source.image_size)
    return Weights(state, None if accuracy is None else float(accuracy), head or None)


def _train(source: Source, device: torch.device, task: Task, file: Path, hear: Hear) -> None:
    """Train on the data's training images alone; its test images stay unseen."""
    start = time.perf_counter()
    config, model, size = source.config, source.model, source.image_size
    state = build.random_state(model, size, seed=config.seed)
    network = build.build(model, state, len(task.classes), size, head_seed=config.seed)
    build.quicken(network, model, size)
    blocks, head = build.blocks(network, model, Unit.stage)
    whole = Network(Normalize(source.mean, source.std), blocks, head, 0, BatchNorm.frozen).to(device)
    chosen = task.fit.take(data.draw(config.data, task, config.seed).train)

    def examples(split: Split) -> Examples:
        return place(torch.from_numpy(split.pool), split.rows, split.labels, device)

    recipe = Recipe(config.optimizer, config.epochs, config.batch_size, augment=config.data.augment)
    begun = Tick(file.name, f"pretraining {model} on {source.task}, once", config.epochs, len(chosen.labels))
    hear(begun)
    told = telling(hear, begun, lambda: machine.peak_memory(device))
    splits = Splits(examples(chosen), examples(task.val))
    curves = fit(whole, splits, recipe, lr=float(config.optimizer.lr), seed=config.seed, on_epoch=told)
    if curves.diverged:
        raise UserError(f"source={source.task}: the loss of {model} is not finite; use a smaller source.optimizer.lr")
    accuracy, least = curves.val_accuracy[-1] if curves.val_accuracy else None, LEAST_ACCURACY.get(source.task, 0.0)
    if accuracy is not None:
        _require_learnt(source, accuracy)
        if accuracy < least:
            reached = f"{model} reached only {accuracy:.2f} validation accuracy on {source.task}"
            print(f"warning: {reached}; {least:g} is expected", flush=True)
    trained = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    seconds = f"{time.perf_counter() - start:.1f}"
    about = {"seconds": seconds, "torch": torch.__version__}
    if accuracy is not None:
        about["val_accuracy"] = f"{accuracy:.4f}"
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(trained, temporary, metadata=about)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
