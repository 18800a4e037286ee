"""Weights that are trained here, once, on any data set, and kept in the user's cache folder."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sweep import paths
from sweep.config import BatchNorm, Unit, digest
from sweep.data import registry, store
from sweep.data import task as data
from sweep.data.types import Split, Task
from sweep.errors import UserError
from sweep.models import build
from sweep.models.frozen import Network, Normalize, fingerprint
from sweep.models.weights import Weights
from sweep.paths import cache_folder
from sweep.plan import sources
from sweep.plan.sources import Source
from sweep.runs import machine
from sweep.runs.tick import Hear, Tick, telling, unheard
from sweep.train.examples import Examples, Splits, place
from sweep.train.loop import Recipe, fit
from sweep.train.resume import Checkpoint, Slot

LEAST_ACCURACY = {"glyphs_latin": 0.9}  # on the source's own validation images, where it is known what can be reached

NEAR_CHANCE = 0.25  # of the way from chance to 1: weights of a lower accuracy have not learnt their source


def path(source: Source) -> Path:
    """Return the file of weights trained here; its name changes with the data and the recipe."""
    model = source.model.partition("[")[0]  # without the user's regular expressions; the key knows them
    return cache_folder() / "sources" / f"{source.task}-{model}-{source.key}.safetensors"


def load(
    source: Source,
    device: torch.device,
    read: Callable[[], Task],
    hear: Hear = unheard,
    minutes: float | None = None,
) -> Weights:
    """Return the weights trained on the source's data; train them first if this machine has not yet.

    The file is written whole or not at all, with a checksum; a damaged one is trained anew; of two processes one
    trains, the other waits. Where the cache folder cannot be written, every process trains for itself.
    read: gives the data, and is not called if the weights are there.
    hear: is told of every epoch. minutes: see Checkpoint.
    """
    file = path(source)
    with store.locked(file.with_suffix(".lock")) as writable:
        checkpoint = _checkpoint(source, device, minutes if writable else None)
        if file.exists():
            try:
                found = _read(source, file)
                checkpoint.remove()  # whoever wrote the file was killed before this
                return found
            except (SafetensorError, OSError) as error:
                print(f"{file} is damaged ({error}); training it anew", flush=True)
        registry.open(source.config.data).fetch()
        tensors, told = _train(source, device, read(), hear, checkpoint)
        if writable:
            try:
                paths.clean(file.parent)
                with paths.replacing(file) as temporary:
                    save_file(tensors, temporary, metadata=told)
                    temporary.replace(file)
            except (SafetensorError, OSError) as error:
                store.unkept(error)
        checkpoint.remove()
        return _weights(source, tensors, told)


def _checkpoint(source: Source, device: torch.device, minutes: float | None) -> Checkpoint:
    of = {"source": source.key, "device": device.type, **machine.versions()}
    return Checkpoint(path(source).with_suffix(".checkpoint"), of, minutes)


def _checksum(tensors: Mapping[str, torch.Tensor], accuracy: str | None) -> str:
    """Return what changes with any bit of what a file of weights says."""
    return digest([accuracy, sorted(tensors), fingerprint(tensors[name] for name in sorted(tensors))])


def _require_learnt(source: Source, accuracy: float) -> None:
    """Raise UserError if the accuracy on a source that can be learnt is near chance: it is not worth freezing."""
    chance = 1 / source.n_classes
    if source.task in LEAST_ACCURACY and accuracy < chance + NEAR_CHANCE * (1 - chance):
        raise UserError(
            f"source={source.task}: {source.model} has not learnt it (validation accuracy {accuracy:.2f}, chance "
            f"{chance:.2f}); {sources.other_than(source)}"
        )


def _read(source: Source, file: Path) -> Weights:
    """Return what a file holds; raise SafetensorError if it is damaged. Files of version 0.1 have no checksum."""
    with safe_open(file, "pt") as opened:
        told = opened.metadata() or {}
    # Copies: a loaded file is a memory map, and whoever shortens it would crash the process.
    tensors = {key: value.clone() for key, value in load_file(file).items()}
    if "checksum" in told and told["checksum"] != _checksum(tensors, told.get("val_accuracy")):
        raise SafetensorError("its checksum does not fit")
    return _weights(source, tensors, told)


def _weights(source: Source, tensors: dict[str, torch.Tensor], told: Mapping[str, str]) -> Weights:
    accuracy = float(told["val_accuracy"]) if "val_accuracy" in told else None
    if accuracy is not None:
        _require_learnt(source, accuracy)
    state, head = build.split_state(tensors, source.model, source.image_size)
    return Weights(state, accuracy, head or None)


def _train(
    source: Source, device: torch.device, task: Task, hear: Hear, checkpoint: Checkpoint
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the weights trained on the data's training images alone, and what is to be said of them."""
    start = time.perf_counter()
    config, model, size = source.config, source.model, source.image_size
    state = build.random_state(model, size, seed=config.seed)
    network = build.build(model, state, len(task.classes), size, head_seed=config.seed)
    build.quicken(network, model, size)
    blocks, head = build.blocks(network, model, Unit.stage, size)
    whole = Network(Normalize(source.mean, source.std), blocks, head, 0, BatchNorm.frozen).to(device)
    chosen = task.fit.take(data.draw(config.data, task, config.seed).train)

    def examples(split: Split) -> Examples:
        return place(torch.from_numpy(split.pool), split.rows, split.labels, device)

    recipe = Recipe(config.optimizer, config.epochs, config.batch_size, augment=config.data.augment)
    begun = Tick(path(source).name, f"pretraining {model} on {source.task}, once", config.epochs, len(chosen.labels))
    hear(begun)
    told = telling(hear, begun, lambda: machine.peak_memory(device))
    splits = Splits(examples(chosen), examples(task.val))
    slot = Slot(checkpoint, "source", told)
    curves = fit(whole, splits, recipe, lr=float(config.optimizer.lr), seed=config.seed, slot=slot)
    if curves.diverged:
        raise UserError(f"source={source.task}: the loss of {model} is not finite; use a smaller source.optimizer.lr")
    accuracy, least = curves.val_accuracy[-1] if curves.val_accuracy else None, LEAST_ACCURACY.get(source.task, 0.0)
    if accuracy is not None and accuracy < least:
        reached = f"{model} reached only {accuracy:.2f} validation accuracy on {source.task}"
        print(f"warning: {reached}; {least:g} is expected", flush=True)
    tensors = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    about = {"seconds": f"{time.perf_counter() - start:.1f}", "torch": torch.__version__}
    if accuracy is not None:
        about["val_accuracy"] = f"{accuracy:.4f}"
    return tensors, about | {"checksum": _checksum(tensors, about.get("val_accuracy"))}
