"""What planning knows about a model: plain data, no torch."""

from dataclasses import dataclass

from sweep.config import Unit

TIMM = "timm/"  # what tells timm's resnet18 from torchvision's, in tables and on the command line
OWN = "module/"  # before the name of a model of the user's own


@dataclass(frozen=True)
class Preset:
    """What a model's pretrained weights expect: image size in pixels, and the normalisation of pixels in 0..1."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ModelSpec:
    """One model's blocks, the images that it takes, and its library's pretrained weights.

    stages: blocks per stage, in forward order; with freeze.unit=stage a stage is one block, with freeze.unit=block each
    of its parts is. weights: the name of the pretrained weights, None if there are none; they were trained on `task`,
    with n_classes classes. least: the smallest image size, patch: what it must be a multiple of, in pixels. fixed:
    whether weights fit one image size only: a transformer learns one position per patch. refused: why the image size
    that was asked for cannot be taken. bands: whether images may have other than three channels.
    """

    stages: dict[str, int]
    preset: Preset
    task: str
    n_classes: int
    weights: str | None
    least: int = 1
    patch: int = 1
    fixed: bool = False
    refused: str | None = None
    bands: bool = True

    def block_names(self, unit: Unit) -> list[str]:
        if unit is Unit.stage:
            return list(self.stages)
        return [
            stage if count == 1 else f"{stage}.{part}" for stage, count in self.stages.items() for part in range(count)
        ]
