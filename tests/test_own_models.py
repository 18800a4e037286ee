"""Models of the user's own: found, cut, frozen, exported and loaded; what cannot be used gets one line."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sweep import export
from sweep.config import Library, SourceConfig, Unit
from sweep.errors import UserError
from sweep.models import build as models
from sweep.plan import catalog, sources
from sweep.plan.point import plan
from sweep.report import record
from sweep.runs.job import run_point
from sweep.runs.session import Session

NET = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        if x.shape[1] < 2:  # which torch.fx could not follow
            return x
        return torch.relu(x + self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Sequential(Block(8), Block(8))
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Sequential(Block(8), Block(8))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 7)

    def forward(self, x):
        x = self.second(self.pool(self.first(self.norm(self.stem(x)))))
        return self.head(self.drop(x.mean((2, 3))))


def build():
    return Net()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that writes a module of its own name into the working folder and returns that name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str, name: str = f"own_{tmp_path.name}") -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        return name

    return write


Write = Callable[[str], str]


def cut(
    spec: str, blocks: list[str] | None = None, unit: Unit = Unit.stage
) -> tuple[nn.Module, list[nn.Module], list[str]]:
    """Return the model for five classes, its blocks with the head, and the blocks' names."""
    config = catalog.named(f"module/{spec}", blocks)
    name = config.full_name
    catalog.check(config, unit, 0, 32)
    model = models.build(name, models.random_state(name, 32, seed=0), 5, 32, head_seed=0)
    parts, head = models.blocks(model, name, unit)
    return model, [*parts, head], catalog.spec(name, 32).block_names(unit)


@pytest.mark.parametrize(
    ("blocks", "unit", "names"),
    [
        (None, Unit.stage, ["stem", "first", "second"]),
        (None, Unit.block, ["stem", "first.0", "first.1", "second.0", "second.1"]),
        (["stem|norm", "first|second"], Unit.stage, ["stem|norm", "first|second"]),
        (
            [r"stem|norm|first\.[0]", r"first\.1", "second"],
            Unit.block,
            [r"stem|norm|first\.[0]", r"first\.1", "second"],
        ),
    ],
)
def test_blocks_one_after_the_other_are_the_model(
    here: Write, blocks: list[str] | None, unit: Unit, names: list[str]
) -> None:
    model, parts, found = cut(f"{here(NET)}:build", blocks, unit)
    assert found == names
    assert len(parts) == len(names) + 1
    images = torch.rand(2, 3, 32, 32)
    x = images
    for part in parts:
        x = part.eval()(x)
    assert x.shape == (2, 5)
    assert torch.equal(x, model.eval()(images))
    assert sum(p.numel() for part in parts for p in part.parameters()) == sum(p.numel() for p in model.parameters())
    assert any(isinstance(layer, nn.Dropout) for layer in parts[-1].modules()), (
        "dropout before the head is trained with it"
    )


def test_a_model_of_torchvisions_is_cut_as_by_its_own_cutter() -> None:
    _, parts, names = cut("torchvision.models:resnet18")
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert names == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert counts == [9536, 147968, 525568, 2099712, 8393728, 512 * 5 + 5]


def test_a_backbone_in_one_child_is_looked_into(here: Write) -> None:
    source = (
        NET
        + """
class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Net()
        self.backbone.head = nn.Identity()
        self.classify = nn.Linear(8, 3)

    def forward(self, images):
        return self.classify(self.backbone(images))
"""
    )
    assert cut(f"{here(source)}:Whole")[2] == ["stem", "first", "second"]


def test_frozen_blocks_do_not_change_while_the_rest_is_trained(
    here: Write, tiny: Callable[..., object], tmp_path: Path, session: Session
) -> None:
    weights = tmp_path / "weights.safetensors"
    spec = f"{here(NET)}:build"
    name = catalog.named(f"module/{spec}").full_name
    state = models.random_state(name, 32, seed=5)
    save_file(state, weights)
    config = tiny(
        model_library=Library.module, model_factory=spec, model_name="module", freeze_depth=2,
        source_name="checkpoint", source_path=str(weights), source_image_size=32, source_n_classes=7, epochs=2,
    )  # fmt: skip
    point = plan(config)  # type: ignore[arg-type]
    outcome = run_point(point, tmp_path, session)
    assert outcome.error is None
    (member,) = record.read_members(record.job_folder(tmp_path, point.job), 0) or []
    assert member.certificate is not None
    folder = export.write(point, member, tmp_path / "export", session)
    with pytest.raises(UserError, match="holds a model of yours"):
        export.load(folder)
    scope: dict[str, Callable[[], nn.Module]] = {}
    exec(NET, scope)
    loaded = export.load(folder, factory=scope["build"])
    own = loaded.model.state_dict()
    frozen = ("stem.", "norm.", "first.")
    for key, value in state.items():
        assert torch.equal(own[key], value) == key.startswith(frozen) or "num_batches" in key, key
    assert loaded(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, len(loaded.classes))
    with pytest.raises(UserError, match="is not of the model"):
        export.load(folder, factory=lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))


def test_an_edited_file_is_another_model_and_helpers_count(here: Write, tmp_path: Path) -> None:
    source = NET.replace("Linear(8, 7)", "Linear(8, width)")
    spec = f"{here('from helper_of_own import width' + source)}:build"
    (tmp_path / "helper_of_own.py").write_text("width = 4\n")
    first = catalog.named(f"module/{spec}").full_name
    assert catalog.card(first).n_classes == 4
    (tmp_path / "helper_of_own.py").write_text("width = 6\n")
    second = catalog.named(f"module/{spec}").full_name
    assert second != first
    assert catalog.card(second).n_classes == 6
    with pytest.raises(UserError, match="has changed since the sweep began"):
        models.random_state(first, 32, seed=0)


def test_a_function_that_loads_weights_is_a_source(here: Write) -> None:
    source = (
        NET
        + """
def pretrained_build(n_classes, *, pretrained=False):
    net = Net()
    net.head = nn.Linear(8, n_classes)
    if pretrained:
        nn.init.constant_(net.stem.weight, 0.25)
    return net
"""
    )
    spec = here(source)
    name = catalog.named(f"module/{spec}:pretrained_build").full_name
    found = sources.resolve(SourceConfig("module", image_size=32, task="shapes"), name)
    assert (found.task, found.image_size, found.n_classes) == ("shapes", 32, 1000)
    weights = Session().weights(found, torch.device("cpu"))
    assert torch.all(weights.state["stem.weight"] == 0.25)
    assert not torch.all(models.random_state(name, 32, 0)["stem.weight"] == 0.25)
    plain = catalog.named(f"module/{spec}:build").full_name
    with pytest.raises(UserError, match="has no weights: give its function an argument pretrained"):
        sources.resolve(SourceConfig("module"), plain)


WRONG = """
import numpy
import torch
from torch import nn
from torch.nn import functional as F

number = 3
instance = nn.Linear(1, 1)

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.b(self.a(x)).mean((2, 3)))

def raises():
    raise OSError("no such weights")

def leaves():
    raise SystemExit(3)

def needs(width):
    return Base()

def text():
    return "model"

def headless():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())

def constant():
    torch.manual_seed(0)
    return Base()

def numpys():
    made = Base()
    made.a.weight.data[0, 0, 0, 0] = float(numpy.random.rand())
    return made

class Branches(Base):
    def forward(self, x):
        x = self.a(x)
        if x.sum() > 0:
            x = x + 1
        return self.head(self.b(x).mean((2, 3)))

class Drops(Base):
    def forward(self, x):
        return self.head(F.dropout(self.b(self.a(x)).mean((2, 3)), 0.5, self.training))

class AlwaysDrops(Base):
    def forward(self, x):
        return self.head(F.dropout(self.b(self.a(x)).mean((2, 3)), 0.5, True))

class Unused(Base):
    def forward(self, x):
        return self.head(self.a(x).mean((2, 3)))

class Maps(Base):
    def forward(self, x):
        return self.head(self.b(self.a(x)).permute(0, 2, 3, 1))

class Pair(Base):
    def forward(self, x):
        return self.head(self.b(self.a(x)).mean((2, 3))), x

class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.hidden = nn.Linear(4, 2), nn.Linear(3, 4)

    def forward(self, x):
        return self.out(self.hidden(x.mean((2, 3))))

class Small(Base):
    def forward(self, x):
        return self.head(self.b(self.a(x)).reshape(2, 4, 49)[:, :, 0])
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "unknown; use one of .*did you mean|unknown; use one of"),
        ("number", "number is a int; name a function or a class"),
        ("raises", r"raises\(\) raised OSError: no such weights \(own_.*line \d+\)"),
        ("leaves", r"leaves\(\) raised SystemExit: 3"),
        ("needs", "cannot be called without width; every argument but pretrained and n_classes needs a default"),
        ("text", r"text\(\) returned a str; return a torch.nn.Module"),
        ("headless", "has no torch.nn.Linear to be its head"),
        ("constant", "its weights are the same under every seed, so none are random"),
        ("numpys", "its weights differ under one seed; draw them with torch"),
        ("Branches", "cannot be cut .*torch.fx must be able to follow"),
        ("Drops", "does something else in training outside of its layers"),
        ("AlwaysDrops", "gives other logits each time in evaluation mode"),
        ("Unused", "b.weight belongs to 0 blocks"),
        ("Maps", "gives .* of 2 images; it must return logits"),
        ("Pair", "returns more than one tensor"),
        ("HeadFirst", "cannot be cut before its head hidden"),
        ("Small", "cannot take such images"),
    ],
)
def test_a_model_that_cannot_be_used_gets_one_line(here: Write, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        cut(f"{here(WRONG)}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["stem", "first"], "norm.weight is in no block"),
        (["stem|norm", "first|second", "second"], r"second.0.conv.weight is in 2 blocks"),
        (["stem|norm", "first", "second", "nothing"], "nothing names nothing with parameters; .* has stem, norm"),
        (["stem|norm", "first", "second", "head"], "head names the head head, which is always trained"),
        (["stem|norm", "second", "first"], "second, first of .* cannot be cut apart"),
        (["stem(", "first"], "is no regular expression"),
        (["stem", "stem"], "list every block once"),
        ([], "list every block once, at least one"),
        ([3], "3 is no regular expression"),
    ],
)
def test_blocks_that_do_not_fit_get_one_line(here: Write, blocks: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        cut(f"{here(NET)}:build", blocks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere_at_all:build", "there is no nowhere_at_all.py in .*, and no module nowhere_at_all is installed"),
        ("a/b/nowhere.py:build", "there is no a/b/nowhere.py in"),
        ("build", "use FILE:NAME"),
        ("my file:build", "use FILE:NAME"),
        ("sys:exit", "there is no sys.py in"),
    ],
)
def test_a_file_that_is_not_there_gets_one_line(here: Write, spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        catalog.named(f"module/{spec}")


def test_an_import_that_fails_says_where(here: Write) -> None:
    for source, message in (("1 +", "raised SyntaxError"), ("\nimport no_such_module_of_mine", r"line 2\)")):
        with pytest.raises(UserError, match=message):
            cut(f"{here(source)}:build")


def test_settings_of_own_models_need_model_module(tiny: Callable[..., object]) -> None:
    for field, value in (("factory", "a:b"), ("blocks", ["a"])):
        with pytest.raises(UserError, match=rf"model\.{field}=.*only model=module has it"):
            plan(tiny(**{f"model_{field}": value}))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"model\.factory is not set"):
        plan(tiny(model_library=Library.module))  # type: ignore[arg-type]
