import pytest
import torch
from torch import nn
from torchvision import transforms

from sweep.config import BatchNorm
from sweep.freeze import Network, Normalize, fingerprint


def network(depth: int = 2, batchnorm: BatchNorm = BatchNorm.frozen) -> Network:
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ]
    return Network(Normalize([0.5] * 3, [0.25] * 3), blocks, nn.Linear(4, 3), depth, batchnorm)


def images(n: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def train_a_bit(net: Network) -> None:
    net.train()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images()), torch.arange(8) % 3).backward()
        optimizer.step()


def test_frozen_prefix_unchanged_after_training() -> None:
    net = network()
    before, suffix_before = fingerprint(net.frozen_tensors()), fingerprint(net.suffix.parameters())
    train_a_bit(net)
    assert fingerprint(net.frozen_tensors()) == before
    assert fingerprint(net.suffix.parameters()) != suffix_before
    assert all(parameter.grad is None for parameter in net.prefix.parameters())
    assert not any(module.training for module in net.prefix.modules())


def test_tracked_batchnorm_moves_its_statistics_and_nothing_else() -> None:
    net = network(batchnorm=BatchNorm.track)
    weights, buffers = fingerprint(net.prefix.parameters()), fingerprint(net.prefix.buffers())
    train_a_bit(net)
    assert fingerprint(net.prefix.parameters()) == weights == fingerprint(net.frozen_tensors())
    assert fingerprint(net.prefix.buffers()) != buffers
    assert not net.prefix[0][2].training, "frozen dropout is off, also while statistics move"
    net.eval()
    assert not any(module.training for module in net.prefix.modules())


def test_nothing_frozen_trains_everything() -> None:
    net = network(depth=0)
    assert net.count()[1] == 0
    assert net.frozen_tensors() == []
    assert torch.equal(net.encode(images()), net.normalize(images()))


def test_normalize_is_torchvisions_to_the_last_bit() -> None:
    pixels, (mean, std) = images(2), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    expected = torch.stack([steps(image.permute(1, 2, 0).numpy()) for image in pixels])
    assert torch.equal(Normalize(mean, std)(pixels), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.view(-1)[3:4].add_(1e-7 * tensor.abs().max() + 1e-9),
        lambda tensor: tensor.view(-1)[3:4].mul_(-1),
    ],
)
def test_fingerprint_sees_one_changed_value(change: object) -> None:
    tensors = [torch.randn(5, 5, generator=torch.Generator().manual_seed(0)), torch.arange(4)]
    before = fingerprint(tensors)
    assert before == fingerprint([tensor.clone() for tensor in tensors])
    change(tensors[0])  # type: ignore[operator]
    assert fingerprint(tensors) != before


def test_fingerprint_sees_shape_and_order() -> None:
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert len({fingerprint(each) for each in ([a, b], [b, a], [a], [a.view(3, 2), b], [a.double(), b])}) == 5
