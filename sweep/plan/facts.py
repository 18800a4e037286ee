"""What is known of a point before it is trained: the columns that all of its records share."""

from dataclasses import dataclass

from sweep.config import Which, frozen_blocks

# Part of every job's identity. Raise it when a change of the code changes results by more than rounding, so that
# nothing old is mixed in.
RESULTS_VERSION = 3


@dataclass(frozen=True)
class Facts:
    """One point in plain values, as tables and records show it. Names of settings are those of the config."""

    task: str
    case: str
    source: str
    model: str
    n_classes: int
    source_classes: int
    image_size: int  # pixels
    pretrained: bool
    freeze_depth: int  # blocks
    n_blocks: int
    unit: str
    batchnorm: str
    optimizer: str
    epochs: int
    batch_size: int
    precision: str  # of what is trained
    prefix_precision: str  # of the frozen blocks
    augment: str
    matched_group: str | None = None  # tasks of one group share their images
    which: str = "prefix"  # which blocks freeze_depth freezes: prefix | suffix | only | all_but
    above: str = "pretrained"  # what blocks that are not frozen start from
    frozen_epochs: int | None = None  # after which everything is trained; None = never
    source_image_size: int | None = None  # pixels at which the pretrained weights were trained
    normalization: str | None = None  # of pixels in 0..1, before the first block

    @property
    def prefix(self) -> int:
        """Return how many blocks are frozen before the first that is trained."""
        frozen = frozen_blocks(Which(self.which), self.freeze_depth, self.n_blocks)
        return [*frozen, False].index(False)

    @property
    def network(self) -> tuple[str | bool, ...]:
        """Return what points have in common that use the same weights, images and cached features."""
        return self.task, self.model, self.source, self.pretrained, self.unit
