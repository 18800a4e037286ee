"""The model that a sweep chose, as two files, and back from them to a module that classifies images.

outputs/<name>/export/<task>/model.safetensors    all weights, under the names of the model's own library
outputs/<name>/export/<task>/model.json           what they are: classes, normalisation, input size, source, metrics

No module of the model is ours. Without this package the weights load into
`torchvision.models.get_model(facts["model"], weights=None, **facts["arguments"])`, or for a model timm/NAME into
`timm.create_model("NAME", **facts["arguments"])`; for module/FILE:NAME... into the model that your own function makes,
once its last linear layer is one for the task's classes. With data.channels, the first convolution takes so many
channels (sweep.models.stem.widen does that to such a model). Images are divided by 255, less the mean, divided by the
deviation.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sweep import paths
from sweep.data import bands, decode
from sweep.data import task as data
from sweep.data.types import Images
from sweep.errors import UserError
from sweep.models import build as models
from sweep.models import stem
from sweep.models.cuts import own as own_models
from sweep.models.frozen import Normalize
from sweep.models.spec import OWN
from sweep.plan.point import Point
from sweep.report import record
from sweep.report.record import Record
from sweep.runs.job import retrain
from sweep.runs.session import Session

FORMAT = 1  # of model.json

Picture = Image.Image | str | Path | npt.NDArray[Any]


class Classifier(nn.Module):
    """An exported model, in evaluation mode. model: the library's own. facts: the content of model.json."""

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.normalize = Normalize(facts["mean"], facts["std"])
        self.model = model
        self.facts = facts
        self.classes: tuple[str, ...] = tuple(facts["classes"])
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of uint8 images (N, 3, S, S), S being facts["image_size"]."""
        logits: Tensor = self.model(self.normalize(images))
        return logits

    def prepare(self, images: Picture | Sequence[Picture]) -> Tensor:
        """Return images of any size and mode as (N, C, S, S) uint8, turned, scaled and cropped as in training.

        images: one or several, each opened with PIL, or a path; where data.channels named bands, also an array
        (H, W, B) of all bands that the files had. raises: UserError for a file that cannot be read.
        """
        given = [images] if isinstance(images, Image.Image | str | Path | np.ndarray) else images
        if not given:
            raise UserError("prepare([]): there is no image; give an image, a path, or a list of them")
        return torch.from_numpy(np.stack([_pixels(each, self.facts) for each in given]))


def _pixels(image: Picture, facts: dict[str, Any]) -> Images:
    """Return one image as (C, S, S)."""
    how = facts["image_size"], facts.get("pixel_range"), facts.get("channels", bands.COLOUR)
    try:
        if isinstance(image, np.ndarray):
            return decode.array(image, *how)
        return decode.pixels(image, *how) if isinstance(image, Image.Image) else decode.decode(Path(image), *how)
    except decode.UNREADABLE as error:
        name = image if isinstance(image, str | Path) else getattr(image, "filename", "the image")
        raise UserError(f"prepare: {name} cannot be read ({error}); give another image") from error


def load(path: str | Path, factory: Callable[..., nn.Module] | None = None) -> Classifier:
    """Return the model of an export folder; raise UserError if it is not one, or not whole.

    Nothing in the files is executed. factory: for a model of your own, the function that model.factory named.
    """
    folder = Path(path)
    facts = paths.read_json(folder / "model.json")
    if facts is None or facts.get("format") != FORMAT:
        raise UserError(f"{folder}: holds no model.json of format {FORMAT}; give a folder written by export=best")
    weights = folder / "model.safetensors"
    try:
        whole = hashlib.sha256(weights.read_bytes()).hexdigest() == facts["sha256"]
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights}: cannot be read ({error}); export again") from error
    if not whole:
        raise UserError(f"{weights}: is not the file that model.json describes; export again")
    name, size = facts["model"], facts["image_size"]
    if name.startswith(OWN):
        model = _of_factory(folder, name, factory, len(facts["classes"]))
    else:
        model = models.build(name, models.random_state(name, size, seed=0), len(facts["classes"]), size, head_seed=0)
    stem.widen(model, bands.count(facts.get("channels", bands.COLOUR)))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: is not of the model that {name} is now ({reason})") from error
    return Classifier(model, facts)


def _of_factory(folder: Path, name: str, factory: Callable[..., nn.Module] | None, n_classes: int) -> nn.Module:
    """Return the model that the user's function makes, with a head for so many classes."""
    spec = own_models.parsed(name).spec
    function = spec.partition(":")[2]
    if factory is None:
        raise UserError(
            f"{folder}: holds a model of yours; import {function} of {spec} and give load(..., factory={function})"
        )
    model = own_models.called(factory, spec)
    models.replace_classifiers(model, name, n_classes, 0)
    return model


def best(points: Sequence[Point], root: Path) -> list[tuple[Point, Record]]:
    """Return, for every task, the point with the highest mean validation accuracy over seeds, and its best member.

    Of equal points the one that freezes more is chosen: it is cheaper to train. A point without all of its seeds is
    passed over. Without validation images (then a task has one point) any member of it is as good as another.
    """
    chosen: dict[str, tuple[tuple[float, int], Point, Record]] = {}
    for point in points:
        folder = record.job_folder(root, point.job)
        found = [record.read_members(folder, seed) or [] for seed in point.config.seed_list]
        members = [member for of_seed in found for member in of_seed if member.selected]
        blind = point.config.data.val_fraction == 0
        ended = [member for member in members if (member.test_accuracy if blind else member.val_accuracy) is not None]
        scores = [member.val_accuracy or 0.0 for member in ended]
        if len(scores) < len(point.config.seed_list):
            continue
        rank = (float(np.mean(scores)), point.config.freeze_depth)
        task = point.facts.task
        if task not in chosen or rank > chosen[task][0]:
            chosen[task] = rank, point, max(ended, key=lambda member: member.val_accuracy or 0.0)
    return [(point, member) for _, point, member in chosen.values()]


def write(point: Point, member: Record, folder: Path, session: Session) -> Path:
    """Train this member again, which gives the same weights, and write it into a subfolder; return that.

    No weights are kept while a sweep runs, so exporting costs one member of all that were trained.
    raises: UserError if the training does not repeat what the record says.
    """
    assert member.lr is not None, "a selected member has a learning rate"
    network, curves = retrain(point, member.seed, member.lr, session)
    accuracy = curves.val_accuracy[-1] if curves.val_accuracy else None
    if accuracy is not None and abs(accuracy - (member.val_accuracy or 0.0)) > 0.01:
        raise UserError(
            f"export=best: training {point.job} seed {member.seed} again gave a validation accuracy of {accuracy:.3f}, "
            f"not {member.val_accuracy:.3f}; library versions or the device changed; use force=true"
        )
    name, size, n_classes = point.config.model.full_name, point.facts.image_size, point.facts.n_classes
    model = models.build(name, models.random_state(name, size, seed=0), n_classes, size, head_seed=0)
    stem.widen(model, bands.count(point.config.data.channels))
    blocks, head = models.blocks(model, name, point.config.freeze.unit, size)
    for own, trained in zip([*blocks, head], network.parts(), strict=True):
        own.load_state_dict(trained.state_dict())
    content = save({key: value.cpu().contiguous() for key, value in model.state_dict().items()})
    normalize = network.normalize
    facts = {
        "format": FORMAT,
        "model": name,
        "arguments": {"num_classes": n_classes, **models.library_arguments(name, size)},
        "classes": data.classes(point.config.data),
        "image_size": size,
        "pixel_range": data.pixel_range(point.config.data),  # black and white of images with more than 8 bits
        "channels": point.config.data.channels,
        "mean": normalize.mean.flatten().tolist(),
        "std": normalize.std.flatten().tolist(),
        **{
            key: getattr(point.facts, key) for key in ("task", "source", "source_classes", "pretrained", "freeze_depth")
        },
        **{key: getattr(point.facts, key) for key in ("n_blocks", "unit", "batchnorm", "which", "epochs")},
        "job": point.job,
        "seed": member.seed,
        "lr": member.lr,
        "val_accuracy": member.val_accuracy,
        "test_accuracy": member.test_accuracy,
        "test_balanced_accuracy": member.test_balanced_accuracy,
        "metric": member.metric,  # of the first two
        "versions": member.versions,
        "git_commit": member.git_commit,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    folder = folder / paths.plain(point.facts.task)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").unlink(missing_ok=True)  # so that it never describes other weights
    paths.write_bytes(folder / "model.safetensors", content)
    paths.write_text(folder / "model.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return folder
