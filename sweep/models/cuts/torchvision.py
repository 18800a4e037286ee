"""How each family of torchvision models is cut into single-tensor steps, in forward order.

A cut returns the parts of freeze.unit=block and the head. Functional steps of the original forward (pooling,
flattening, activations) become small modules; what follows the last block's weights belongs to that block, so
that a fully frozen network hands the head plain vectors.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Cut = Callable[[Any], tuple[list[nn.Module], nn.Module]]


class Family(NamedTuple):
    head: str  # the path of the last linear layer, which is replaced for the task's classes
    cut: Cut


def set_submodule(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def assert_covered(model: nn.Module, parts: Sequence[nn.Module]) -> None:
    """Raise RuntimeError unless every parameter and buffer of the model is in exactly one part."""
    owners: dict[int, int] = {}
    for part in parts:
        for identity in {id(tensor) for tensor in (*part.parameters(), *part.buffers())}:
            owners[identity] = owners.get(identity, 0) + 1
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        count = owners.pop(id(tensor), 0)
        if count != 1:
            raise RuntimeError(f"{name} belongs to {count} blocks; every parameter and buffer belongs to exactly one")
    if owners:
        raise RuntimeError(f"{len(owners)} tensors of the blocks are not the model's")


class _Embed(nn.Module):
    """ViT's input: patches to tokens, class token first, positions added."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.conv_proj = vit.conv_proj
        self.class_token = vit.class_token
        self.pos_embedding = vit.encoder.pos_embedding
        self.dropout = vit.encoder.dropout

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.conv_proj(images).flatten(2).transpose(1, 2)  # (N, patches, D)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        out: Tensor = self.dropout(tokens + self.pos_embedding)  # (N, 1 + patches, D)
        return out


class _ClassToken(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]  # (N, D)


class _Concat(nn.Module):
    """A DenseNet layer as a step from one tensor to one: the input, and the layer's new channels behind it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layer(x)], dim=1)  # (N, C + growth, h, w)


def _pool() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(1)]


def _resnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    parts = [stem, *model.layer1, *model.layer2, *model.layer3, *model.layer4]
    return _with_tail(parts, [model.avgpool, nn.Flatten(1)]), model.fc


def _with_tail(parts: list[nn.Module], tail: Sequence[nn.Module]) -> list[nn.Module]:
    return [*parts[:-1], nn.Sequential(parts[-1], *tail)]


def _features(model: Any) -> tuple[list[nn.Module], nn.Module]:
    """MobileNetV2: one part per inverted residual."""
    return _with_tail(list(model.features), _pool()), model.classifier


def _efficientnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    stem, *stages, last = model.features
    parts = [stem, *(block for stage in stages for block in stage), last]
    return _with_tail(parts, [model.avgpool, nn.Flatten(1)]), model.classifier


def _vgg(model: Any) -> tuple[list[nn.Module], nn.Module]:
    parts: list[nn.Module] = []
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            parts.append(nn.Sequential())
        parts[-1].append(layer)  # type: ignore[operator]
    parts = _with_tail(parts, [model.avgpool, nn.Flatten(1)])
    first, relu1, drop1, second, relu2, drop2, last = model.classifier
    return [*parts, nn.Sequential(first, relu1, drop1), nn.Sequential(second, relu2, drop2)], last


def _densenet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    children = dict(model.features.named_children())
    parts: list[nn.Module] = [nn.Sequential(*(children[key] for key in ("conv0", "norm0", "relu0", "pool0")))]
    for number in range(1, 5):
        parts += [_Concat(layer) for layer in children[f"denseblock{number}"].values()]
        if number < 4:
            parts.append(children[f"transition{number}"])
    return _with_tail(parts, [children["norm5"], nn.ReLU(), *_pool()]), model.classifier


def _vit(model: Any) -> tuple[list[nn.Module], nn.Module]:
    parts: list[nn.Module] = [_Embed(model), *model.encoder.layers]
    return _with_tail(parts, [model.encoder.ln, _ClassToken()]), model.heads


def _convnext(model: Any) -> tuple[list[nn.Module], nn.Module]:
    parts: list[nn.Module] = [model.features[0], *model.features[1]]
    for down, stage in ((2, 3), (4, 5), (6, 7)):
        parts += [model.features[down], *model.features[stage]]
    norm, flatten, linear = model.classifier
    return _with_tail(parts, [model.avgpool, norm, flatten]), linear


def _swin(model: Any) -> tuple[list[nn.Module], nn.Module]:
    parts: list[nn.Module] = [model.features[0], *model.features[1]]
    for merge, stage in ((2, 3), (4, 5), (6, 7)):
        parts += [model.features[merge], *model.features[stage]]
    return _with_tail(parts, [model.norm, model.permute, model.avgpool, model.flatten]), model.head


FAMILIES: dict[str, Family] = {
    "resnet": Family("fc", _resnet),
    "mobilenet": Family("classifier.1", _features),
    "efficientnet": Family("classifier.1", _efficientnet),
    "vgg": Family("classifier.6", _vgg),
    "densenet": Family("classifier", _densenet),
    "vit": Family("heads.head", _vit),
    "convnext": Family("classifier.2", _convnext),
    "swin": Family("head", _swin),
}
