from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import transforms

from sweep.config import BatchNorm, Which, frozen_blocks
from sweep.models.frozen import Frozen, Network, Normalize, fingerprint


def network(depth: int = 2, batchnorm: BatchNorm = BatchNorm.frozen, which: Which = Which.prefix) -> Network:
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ]
    normalize = Normalize([0.5] * 3, [0.25] * 3)
    return Network(normalize, blocks, nn.Linear(4, 3), frozen_blocks(which, depth, len(blocks)), batchnorm)


def images(n: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def train_a_bit(net: Network) -> None:
    net.train()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images()), torch.arange(8) % 3)
        loss.backward()  # type: ignore[no-untyped-call]
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
    assert not net.prefix.get_submodule("0.2").training, "frozen dropout is off, also while statistics move"
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
def test_fingerprint_sees_one_changed_value(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = [torch.randn(5, 5, generator=torch.Generator().manual_seed(0)), torch.arange(4)]
    before = fingerprint(tensors)
    assert before == fingerprint([tensor.clone() for tensor in tensors])
    change(tensors[0])
    assert fingerprint(tensors) != before


def test_fingerprint_sees_shape_and_order() -> None:
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert len({fingerprint(each) for each in ([a, b], [b, a], [a], [a.view(3, 2), b], [a.double(), b])}) == 5


@pytest.mark.parametrize(
    ("which", "depth", "trained"),
    [
        (Which.prefix, 1, [1, 2]),
        (Which.suffix, 1, [0, 1]),
        (Which.suffix, 3, []),
        (Which.only, 2, [0, 2]),
        (Which.only, 0, [0, 1, 2]),
        (Which.all_but, 2, [1]),
        (Which.all_but, 0, []),
    ],
)
def test_every_range_of_blocks_can_be_frozen(which: Which, depth: int, trained: list[int]) -> None:
    net = network(depth, which=which)
    blocks = [*net.prefix, *(block[0] if isinstance(block, Frozen) else block for block in net.suffix[:-1])]
    before, frozen = [fingerprint(block.state_dict().values()) for block in blocks], fingerprint(net.frozen_tensors())
    train_a_bit(net)
    after = [fingerprint(block.state_dict().values()) for block in blocks]
    assert [place for place in range(3) if before[place] != after[place]] == trained
    assert fingerprint(net.frozen_tensors()) == frozen
    for place in set(range(3)) - set(trained):
        assert all(parameter.grad is None for parameter in blocks[place].parameters())


def test_suffix_alone_keeps_its_frozen_blocks_in_evaluation_mode() -> None:
    net = network(2, which=Which.suffix)
    net.suffix.train()  # as where the outputs of the prefix are kept
    assert [block.training for block in net.suffix] == [True, False, False, True]
    assert not any(module.training for block in list(net.suffix)[1:3] for module in block.modules())


def test_thawed_network_trains_all_of_the_same_weights() -> None:
    net = network(2, which=Which.only)
    whole = net.thawed()
    assert whole.count() == (sum(p.numel() for p in net.parameters()), 0)
    assert torch.equal(whole.eval()(images()), net.eval()(images()))
    before = fingerprint(net.state_dict().values())
    train_a_bit(whole)
    assert fingerprint(net.state_dict().values()) != before, "weights are shared"
