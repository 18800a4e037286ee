"""Convolutions onto few pixels: the same numbers in less time."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sweep.models import build as models
from sweep.models import convolutions
from sweep.models.cuts import torchvision as torchvision_models


def pair(kernel: int, stride: int, padding: int, side: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return a convolution of torch's and ours, of the same weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, kernel, stride, padding))
    ours = copy.deepcopy(model)
    convolutions.replace(ours, convolutions.choose(copy.deepcopy(model).to("meta"), side))
    return model[0], ours[0]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [(3, 1, 1, 1), (3, 2, 1, 2), (3, 2, 1, 1), (5, 1, 2, 1), (5, 4, 2, 3), (2, 2, 0, 2), (4, 4, 0, 5)],
)
def test_values_and_gradients_are_the_convolutions(kernel: int, stride: int, padding: int, side: int) -> None:
    theirs, ours = pair(kernel, stride, padding, side)
    assert isinstance(ours, convolutions.OnePixelConv2d)
    first, second = (torch.randn(6, 3, side, side, requires_grad=True) for _ in range(2))
    second.data.copy_(first.data)
    out, expected = ours(first), theirs(second)
    assert out.shape == (6, 5, 1, 1)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(first.grad, second.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_larger_outputs_kernels_of_one_and_groups_stay_as_they_are() -> None:
    for conv, side in (
        (nn.Conv2d(3, 3, 3, padding=1), 2),
        (nn.Conv2d(3, 3, 1), 1),
        (nn.Conv2d(3, 3, 3, 1, 1, groups=3), 1),
    ):
        assert convolutions.choose(nn.Sequential(conv).to("meta"), side) == {}
    windows = models.faster_convolutions("resnet18", 32)
    assert [path.split(".")[0] for path, window in windows.items() if window] == ["layer4"] * 4
    assert [path.split(".")[0] for path, window in windows.items() if not window] == ["layer3"] * 4
    assert models.faster_convolutions("resnet18", 128) == {}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_librarys_own_classes_come_back(name: str) -> None:
    skeleton = torchvision_models.skeleton(name, 32)
    before = [type(module) for module in skeleton.modules()]
    keys, attributes = list(skeleton.state_dict()), [sorted(vars(module)) for module in skeleton.modules()]
    models.quicken(skeleton, name, 32)
    ours = [module for module in skeleton.modules() if type(module).__module__.startswith("sweep")]
    assert {type(module) for module in ours} == {convolutions.OnePixelConv2d, convolutions.FewPixelsConv2d}
    convolutions.restore(skeleton)
    assert [type(module) for module in skeleton.modules()] == before
    assert all(type(module).__module__.split(".")[0] in ("torch", "torchvision") for module in skeleton.modules())
    assert list(skeleton.state_dict()) == keys
    assert [sorted(vars(module)) for module in skeleton.modules()] == attributes
    parameters = [list(dict(module.named_parameters(recurse=False))) for module in ours]
    assert all("taps" not in names for names in parameters)
    pickle.dumps(skeleton.get_submodule("layer4"))


def test_built_model_trains_quickly_only_while_it_is_asked_to() -> None:
    model = models.build("resnet18", models.random_state("resnet18", 32, seed=0), 10, 32, head_seed=0)
    assert not any(type(module).__module__.startswith("sweep") for module in model.modules())
    x = torch.randn(2, 3, 32, 32)
    expected = model.eval()(x)
    models.quicken(model, "resnet18", 32)
    torch.testing.assert_close(model(x), expected)
    convolutions.restore(model)
    assert torch.equal(model(x), expected)


def test_images_of_another_size_take_the_usual_way() -> None:
    theirs, ours = pair(3, 2, 1, 2)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_the_taps_alone_trains_the_kernel(optimizer: type[torch.optim.Optimizer]) -> None:
    theirs, ours = pair(3, 1, 1, 1)
    x = torch.randn(6, 3, 1, 1)

    def train(conv: nn.Conv2d, others: nn.Parameter | None) -> None:
        parameters = [p for p in (*conv.parameters(), others) if p is not None and p.requires_grad]
        stepper = optimizer(parameters, lr=0.1, weight_decay=0.3)  # type: ignore[call-arg]
        for _ in range(3):
            stepper.zero_grad()
            conv(x).square().sum().backward()
            if others is not None:
                others.grad = torch.zeros_like(others)
            stepper.step()

    train(theirs, None)
    with convolutions.seen_alone(ours) as others:
        assert sum(p.numel() for p in ours.parameters() if p.requires_grad) == 5 * 3 + 5
        train(ours, others)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert ours.weight.requires_grad


def test_what_is_frozen_is_left_alone_and_a_failure_puts_everything_back() -> None:
    _, ours = pair(3, 1, 1, 1)
    before = copy.deepcopy(ours.state_dict())
    ours.requires_grad_(False)
    with convolutions.seen_alone(ours) as others:
        assert others is None
    ours.requires_grad_(True)
    with pytest.raises(ZeroDivisionError), convolutions.seen_alone(ours):
        1 / 0  # noqa: B018
    assert ours.weight.requires_grad
    torch.testing.assert_close(ours.state_dict(), before, rtol=0, atol=0)
