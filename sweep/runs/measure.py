"""Features of a frozen network for the statistics: how far a task lies from the source, how well a depth suits it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sweep.config import Transform
from sweep.data.decoded import transformed
from sweep.data.types import Images, Labels, Split, Task
from sweep.errors import UserError
from sweep.models.frozen import Network
from sweep.stats import distances as similarity
from sweep.stats import transfer
from sweep.stats.distances import Estimate, Placement
from sweep.stats.features import Sample
from sweep.stats.types import Floats
from sweep.train.examples import Examples

IMAGES = 1000  # of one side, at most: scores and distances of more hardly differ, and take longer
BATCH = 256  # images
PRIMARY = "frechet"  # the distance that places a task: it neither saturates nor needs labels


@dataclass(frozen=True)
class Similarity:
    """How far a task's images lie from the source's. distances: by name, after the last block. placement: of all."""

    distances: dict[str, Estimate]
    placement: Placement


class Reference:
    """The source's own images as features, and the two ends of the scale: its other half, and no structure at all."""

    def __init__(self, network: Network, task: Task) -> None:
        """Take the source's held-out images: a network's features of images that it was trained on are special.

        network: the source's, with all blocks frozen.
        """
        images = np.concatenate([task.val.images, task.test.images])
        labels = np.concatenate([task.val.labels, task.test.labels])
        order = np.random.default_rng(0).permutation(len(labels))[: 2 * IMAGES]
        one, other = order[::2], order[1::2]
        self.labels, self.other_labels = labels[one], labels[other]
        self.features, self.other = (encode(network, images[half]) for half in (one, other))
        self.permuted = encode(network, transformed(images[other], Transform.permute))
        self._ends: dict[int, list[tuple[Estimate, Estimate]]] = {}

    def compare(self, network: Network, target: Split) -> Similarity:
        """Return where the target's images lie: both ends are measured on as many images, so that no bias is left."""
        order = np.sort(np.random.default_rng(0).permutation(len(target.labels))[: len(self.other_labels)])
        chosen = target.take(order)
        depths = encode(network, chosen.images)
        source = Sample(self.features[-1], self.labels)
        last = similarity.distances(source, Sample(depths[-1], chosen.labels))
        tasks = [self._primary(depth, features, chosen.labels) for depth, features in enumerate(depths[:-1])]
        ends = self._scale(len(order))
        places = [similarity.place(each, *end) for each, end in zip([*tasks, last[PRIMARY]], ends, strict=True)]
        return Similarity(last, similarity.overall(places))

    def _scale(self, count: int) -> list[tuple[Estimate, Estimate]]:
        if count not in self._ends:
            labels = self.other_labels[:count]
            self._ends[count] = [
                (self._primary(depth, near[:count], labels), self._primary(depth, far[:count], labels))
                for depth, (near, far) in enumerate(zip(self.other, self.permuted, strict=True))
            ]
        return self._ends[count]

    def _primary(self, depth: int, features: Floats, labels: Labels) -> Estimate:
        source = Sample(self.features[depth], self.labels)
        return similarity.distances(source, Sample(features, labels), only=(PRIMARY,))[PRIMARY]


def encode(network: Network, images: Images) -> list[Floats]:
    """Return pooled features (N, D) of uint8 images (N, 3, S, S) after every frozen block."""
    with torch.no_grad():
        batches = [
            [pooled(out) for out in network.steps(part.to(network.device))]
            for part in torch.split(torch.from_numpy(images), BATCH)
        ]
    return [np.concatenate(depth) for depth in zip(*batches, strict=True)]


def pooled(outputs: Tensor) -> Floats:
    """Return a block's outputs as vectors (N, D): maps (N, D, h, w) and tokens (N, T, D) are averaged."""
    if outputs.dim() == 4:
        outputs = outputs.float().mean((2, 3))
    elif outputs.dim() == 3:
        outputs = outputs.float().mean(1)
    return outputs.double().cpu().numpy()


def scores(outputs: Examples, head: Mapping[str, Tensor] | None = None) -> dict[str, float]:
    """Return the transferability scores of one depth's outputs for their labels; {} where images are too few.

    head: weight (Z, D) and bias (Z,) of the source's own classifier, if these outputs are what it takes.
    """
    with torch.no_grad():
        chosen = evenly(len(outputs))
        features = pooled(outputs.inputs[outputs.rows[chosen.to(outputs.rows.device)]])
    return feature_scores(features, outputs.labels.cpu()[chosen].numpy(), head)


def score_depths(network: Network, split: Split, head: Mapping[str, Tensor] | None) -> list[dict[str, float]]:
    """Return the transferability scores of every depth of a frozen network, from one pass; {} of the images.

    head: as for scores(), of the last depth.
    """
    chosen = split.take(evenly(len(split.labels)).numpy())
    depths = encode(network, chosen.images)
    return [{}] + [
        feature_scores(features, chosen.labels, head if depth == len(depths) else None)
        for depth, features in enumerate(depths, start=1)
    ]


def evenly(count: int) -> Tensor:
    """Return at most IMAGES row numbers, from all over: in a folder, the first thousand may be of one class."""
    return torch.linspace(0, count - 1, min(count, IMAGES)).long()


def feature_scores(features: Floats, labels: Labels, head: Mapping[str, Tensor] | None = None) -> dict[str, float]:
    """Return the scores of features (N, D) for labels (N,), with the source's classifier if it takes D features."""
    probabilities = None
    if head is not None and head["weight"].shape[1] == features.shape[1]:
        logits = torch.from_numpy(features) @ head["weight"].double().T + head["bias"].double()
        probabilities = logits.softmax(1).numpy()
    try:
        return transfer.scores(features, labels, probabilities)
    except UserError:  # fewer images than classes, or features that are not finite
        return {}
