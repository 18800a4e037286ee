"""Files of weights as other people's tools write them."""

import argparse
import enum
import gzip
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from sweep.config import SourceConfig
from sweep.errors import UserError
from sweep.models import weights
from sweep.models.build import State
from sweep.models.checkpoint import read
from sweep.models.shards import HUB_FILES
from sweep.plan import sources


@pytest.fixture(scope="module")
def state() -> State:
    """Return a whole torchvision checkpoint, head included."""
    torch.manual_seed(7)
    made: State = torchvision.models.resnet18().state_dict()
    return made


def load(path: Path, **settings: Any) -> State:
    return weights.checkpoint(path, "resnet18", 32, **settings).state


def same(loaded: State, state: State) -> None:
    backbone = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert loaded.keys() == backbone.keys()
    assert all(torch.equal(loaded[key], backbone[key]) for key in backbone)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "epoch=3-step=900.ckpt", "a.pth.tar", "b.safetensors", "bare", "x.v1"]
)
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_files_are_read_by_content(state: State, tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / name
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    assert sources.resolve(SourceConfig("checkpoint", path=str(path)), "resnet18").config.path == str(path)
    same(load(path), state)


@pytest.mark.parametrize("form", ["npz", "compressed", "big-endian", "zip", "legacy"])
def test_arrays_of_numpy_are_tensors(state: State, tmp_path: Path, form: str) -> None:
    arrays: Any = {key: value.numpy() for key, value in state.items()}
    if form == "big-endian":
        arrays = {key: value.astype(value.dtype.newbyteorder(">")) for key, value in arrays.items()}
    if form in ("zip", "legacy"):
        other = {"names": np.array(["a", "bc"]), "log": np.array([1, "x"], object), "best": np.float32(3)}
        content = {"state_dict": arrays, **other}
        torch.save(content, tmp_path / "a", _use_new_zipfile_serialization=form == "zip")
    else:
        with (tmp_path / "a").open("wb") as file:
            (np.savez_compressed if form == "compressed" else np.savez)(file, **arrays)
    same(load(tmp_path / "a"), state)


def test_objects_in_arrays_are_not_run(tmp_path: Path) -> None:
    harmful = np.array([Harmful(tmp_path / "was_run", "exec"), 1], object)
    torch.save({"names": harmful}, tmp_path / "a.pth")
    np.savez(tmp_path / "a.npz", names=harmful)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"names": harmful}))
    for suffix, reason in (
        ("pth", "has 0%"),
        ("npz", r"tensors \(its pickle"),
        ("pkl", r"tensors \(pickle.dump wrote it"),
    ):
        with pytest.raises(UserError, match=reason):
            load(tmp_path / f"a.{suffix}")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_shards_are_read_together_and_named_by_their_content(state: State, tmp_path: Path, form: str) -> None:
    keys = list(state)
    placed = {key: f"model-{number}-of-3.{form}" for number in range(3) for key in keys[number::3]}
    for shard in set(placed.values()):
        part = {key: value for key, value in state.items() if placed[key] == shard}
        (save_file if form == "safetensors" else torch.save)(part, tmp_path / shard)
    index = tmp_path / f"model.{form}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    same(load(index), state)
    config = SourceConfig("checkpoint", path=str(index))
    before = sources.resolve(config, "resnet18").key
    (save_file if form == "safetensors" else torch.save)(
        {keys[0]: state[keys[0]] + 1}, tmp_path / f"model-0-of-3.{form}"
    )
    assert sources.resolve(config, "resnet18").key != before
    (tmp_path / f"model-1-of-3.{form}").unlink()
    with pytest.raises(UserError, match=r"names the shard model-1-of-3\.\w+, which is not beside it"):
        sources.resolve(config, "resnet18")


@pytest.mark.parametrize("text", ['{"weight_map": {"a": 1', '{"weights": {}}', "{} and more", '{"weight_map": []}'])
def test_a_wrong_index_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.index.json").write_text(text)
    with pytest.raises(UserError, match="names no shards"):
        sources.resolve(SourceConfig("checkpoint", path=str(tmp_path / "a.index.json")), "resnet18")


class Colour(enum.Enum):
    red = 1


class Settings(dict[str, Any]):
    """A dictionary of another class, with attributes, as trainers keep settings."""


class Slots:
    __slots__ = ("rate",)

    def __init__(self) -> None:
        self.rate = 3


@pytest.mark.parametrize(
    "extra",
    [
        argparse.Namespace(lr=0.1, inner=argparse.Namespace(data=Path("/data"))),
        {"hyper_parameters": Settings(lr=0.1, wd=Settings(a=1))},
        [np.float64(0.5), np.arange(3), {1, 2}, frozenset({3}), 1j, b"x"],
        (Colour.red, Slots(), torch.optim.SGD, torch.float16, torch.device("cpu"), len),
        OrderedDict([("a", range(3)), ("b", slice(1, 2))]),
    ],
    ids=["namespace", "settings", "numpy", "classes", "ordered"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whatever_else_a_file_holds_does_no_harm(state: State, tmp_path: Path, extra: object, zipped: bool) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"extra": extra, "state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    same(load(path), state)


def test_integer_keys_are_left_out(state: State, tmp_path: Path) -> None:
    content: dict[Any, Any] = {**state, 7: torch.zeros(1), ("a", 1): torch.zeros(1)}
    torch.save(content, tmp_path / "a.pth")
    same(load(tmp_path / "a.pth"), state)


class Harmful:
    """Touches a file when it is opened, in one of the ways that a pickle has."""

    def __init__(self, path: Path, way: str) -> None:
        self.path, self.way = path, way

    def __reduce__(self) -> tuple[object, ...]:
        code = f"open({str(self.path)!r}, 'w').close()"
        ways: dict[str, tuple[object, ...]] = {
            "method": (Path.touch, (self.path,)),
            "exec": (exec, (code,)),
            "eval": (eval, (code,)),
            "open": (open, (str(self.path), "w")),
        }
        return ways[self.way]


@pytest.mark.parametrize("way", ["method", "exec", "eval", "open"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_beside_the_tensors_never_runs(state: State, tmp_path: Path, way: str, zipped: bool) -> None:
    path, touched = tmp_path / "a.pth", tmp_path / "was_run"
    torch.save({"state_dict": state, "extra": Harmful(touched, way)}, path, _use_new_zipfile_serialization=zipped)
    if way == "method":  # a call of what another call returned: nothing stands for that
        with pytest.raises(UserError, match=r"it would run \S+ when opened"):
            load(path)
    else:
        same(load(path), state)
    torch.save(Harmful(touched, way), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"it would run \S+ when opened"):
        load(path)
    assert not touched.exists()


def test_what_stands_for_other_objects_holds_nothing(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    found, ignored = read(tmp_path / "a.pth")
    assert ignored == ("argparse.Namespace",)
    assert vars(found["args"]) == {}


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{", b"12345678{", b"PK\x03\x04", b"\x80\x02.", pickle.dumps(3), b"\x93NUMPY"]
)
def test_other_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.", "module._orig_mod."]
)
@pytest.mark.parametrize("within", ["layer1.", "layer2.0.", "layer3.1.conv1."])
def test_wrappers_of_single_layers_are_passed_over(state: State, tmp_path: Path, wrapper: str, within: str) -> None:
    wrapped = {f"module.{key.replace(within, within + wrapper)}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "a.pth")
    same(load(tmp_path / "a.pth"), state)


@pytest.mark.parametrize("wrap", [lambda state: [state, 3], lambda state: (3, {"a": [state]})])
def test_lists_are_looked_into(state: State, tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(state), tmp_path / "a.pth")
    same(load(tmp_path / "a.pth"), state)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.to(torch.int8), r"quantised \(int8\)"),
        (lambda value: value.to(torch.float8_e4m3fn), r"quantised \(float8_e4m3fn\)"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), r"quantised \(qint8\)"),
        (lambda value: value.to_sparse(), r"sparse \(float32\)"),
        (lambda value: value.to("meta"), r"without numbers \(float32\)"),
    ],
)
def test_weights_that_are_no_plain_floats_are_one_line(state: State, tmp_path: Path, change: Any, said: str) -> None:
    torch.save({key: change(value) if value.dim() == 4 else value for key, value in state.items()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"conv1.weight is {said}; save the weights as plain floats") as caught:
        load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "absent", ["conv1.weight", "layer2.0.bn1.running_var", "layer4.1.bn2.bias", "layer3.0.bn2.running_mean"]
)
@pytest.mark.parametrize("prefix", ["", "model.backbone."])
def test_what_would_stay_random_is_refused(state: State, tmp_path: Path, absent: str, prefix: str) -> None:
    torch.save({f"{prefix}{key}": value for key, value in state.items() if key != absent}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"lacks {absent} of resnet18, which would stay random") as caught:
        load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def _replaced(state: State, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return tensors with some in place of others: {old name: {new name: tensor}}."""
    made: dict[str, Any] = {key: value for key, value in state.items() if key not in changes}
    for new in changes.values():
        made |= new
    return made


CAUSES: dict[str, tuple[dict[str, float], str]] = {
    "weight_norm": ({"weight_g": 1, "weight_v": 1}, "parametrized .*remove the parametrizations before saving"),
    "spectral_norm": ({"weight_orig": 1, "weight_u": 1, "weight_v": 1}, "parametrized"),
    "parametrize": ({"parametrizations.weight.original0": 1, "parametrizations.weight.original1": 1}, "parametrized"),
    "LoRA": (
        {"base_layer.weight": 1, "lora_A.default.weight": 1},
        r"LoRA \(PEFT\); merge_and_unload\(\) before saving",
    ),
}


@pytest.mark.parametrize("tool", CAUSES)
@pytest.mark.parametrize("share", ["one layer", "all layers"])
def test_what_tools_leave_in_place_of_weights_is_named(state: State, tmp_path: Path, tool: str, share: str) -> None:
    names, said = CAUSES[tool]
    old = [key for key in state if "conv" in key][: 1 if share == "one layer" else None]
    changes = {key: {key.replace("weight", name): state[key] * scale for name, scale in names.items()} for key in old}
    torch.save(_replaced(state, changes), tmp_path / "a.pth")
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "net.", "module._orig_mod."])
@pytest.mark.parametrize("n_pruned", [1, 20])
def test_pruned_weights_are_read_with_their_masks(state: State, tmp_path: Path, prefix: str, n_pruned: int) -> None:
    pruned = [key for key in state if "conv" in key][:n_pruned]
    masks = {key: (torch.rand(state[key].shape) < 0.5).float() for key in pruned}
    changes = {key: {f"{key}_orig": state[key], f"{key}_mask": masks[key]} for key in pruned}
    content = {f"{prefix}{key}": value for key, value in _replaced(state, changes).items()}
    torch.save(content, tmp_path / "a.pth")
    same(load(tmp_path / "a.pth"), state | {key: state[key] * masks[key] for key in pruned})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>404", "a page of text"),
        (b"\x89HDF\r\n\x1a\n" * 9, "HDF5"),
        (b"GGUF\x03\0\0\0" * 9, "GGUF"),
        (gzip.compress(b"a", mtime=0), "compressed by gzip; unpack it"),
        (b"a.pth".ljust(257, b"\0") + b"ustar\x0000", "an archive of tar"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "ONNX"),
        (b"\x08\x08:\xf4\x03", "ONNX"),
    ],
)
def test_files_of_other_kinds_say_what_they_are(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=f"is no file of weights of torch: it is {said}"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
def test_a_file_that_is_cut_short_says_so(state: State, tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / "a.pth"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"\(it is cut short or damaged; copy or fetch it again\)") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_archives_and_text_say_what_they_are(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "model.pth", "run/model.pth")
    with pytest.raises(UserError, match=r"a zip archive with run/model.pth in it; unpack that, and give its path"):
        load(tmp_path / "a.zip")
    (tmp_path / "a.txt").write_text("epoch,loss\n1,0.5\n")
    with pytest.raises(UserError, match=r"\(it is text\)"):
        load(tmp_path / "a.txt")


@pytest.mark.parametrize("n_empty", [1, 62])
def test_empty_tensors_of_deepspeed_say_what_to_run(state: State, tmp_path: Path, n_empty: int) -> None:
    names = [each for each in state if each.endswith(("weight", "bias"))][:n_empty]
    torch.save({"module": state | {each: torch.empty(0) for each in names}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"conv1.weight.* empty, as DeepSpeed ZeRO-3 leaves them; .*zero_to_fp32.py"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("wrap", [lambda state: {0: state}, lambda state: {"models": {3: state, 1: 2}, 7: "x"}])
def test_numbers_as_keys_of_dictionaries_are_read(state: State, tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(state), tmp_path / "a.pth")
    same(load(tmp_path / "a.pth"), state)


@pytest.mark.parametrize("absent", ["layer1.0.conv1.weight", "fc.bias", "layer9.weight"])
def test_an_index_that_names_what_no_shard_has_is_refused(state: State, tmp_path: Path, absent: str) -> None:
    save_file({key: value for key, value in state.items() if key != absent}, tmp_path / "model-1-of-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys([*state, absent], "model-1-of-1.safetensors")}))
    with pytest.raises(UserError, match=f"the index names {absent}, and no shard has it"):
        load(index)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "link.pth").symlink_to(tmp_path / "gone.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    for path, said in (("link.pth", "a link to .*gone.pth, where there is no file"), ("pipe.pth", "it is a pipe")):
        with pytest.raises(UserError, match=said):
            sources.resolve(SourceConfig("checkpoint", path=str(tmp_path / path)), "resnet18")
    with pytest.raises(UserError, match="it is a device; give a file"):
        sources.resolve(SourceConfig("checkpoint", path=os.devnull), "resnet18")


# --- whole models, folders, heads -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_whole_model_is_read_by_its_tensors_and_never_made(tmp_path: Path, wrapped: bool) -> None:
    torch.manual_seed(7)
    model = torchvision.models.resnet18()
    content = {"model": model, "epoch": 3} if wrapped else model
    torch.save(content, tmp_path / "model.pth")
    same(load(tmp_path / "model.pth"), model.state_dict())
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)  # which holds code beside it
    with pytest.raises(UserError, match=r"it would run torchvision\S+ when opened\); save model.state_dict\(\) as"):
        load(tmp_path / "old.pth")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match=r"it is TorchScript, which holds code\); save model.state_dict\(\)"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_the_hub_is_read(state: State, tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 1000}))
    (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)
    same(load(tmp_path), state)
    found = sources.resolve(SourceConfig("checkpoint", path=str(tmp_path)), "resnet18")
    assert found.key == sources.resolve(SourceConfig("checkpoint", path=str(tmp_path / name)), "resnet18").key


def test_folders_that_cannot_be_read_are_one_line(state: State, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a folder without model.safetensors or pytorch_model.bin; give a file"):
        sources.resolve(SourceConfig("checkpoint", path=str(tmp_path)), "resnet18")
    config = {"architectures": ["ResNetForImageClassification"], "transformers_version": "4.40.0"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({f"resnet.embedder.{key}.convolution": value for key, value in state.items()}, tmp_path / HUB_FILES[0])
    with pytest.raises(
        UserError, match=r"has 0% of .* says ResNetForImageClassification of the transformers"
    ) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_classes_are_counted_by_the_head_in_the_file(state: State, tmp_path: Path, prefix: str) -> None:
    head = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    path = tmp_path / "ten.pth"
    torch.save({"state_dict": {f"{prefix}{key}": value for key, value in (state | head).items()}}, path)
    assert sources.resolve(SourceConfig("checkpoint", path=str(path)), "resnet18").n_classes == 10
    given = SourceConfig("checkpoint", path=str(path), n_classes=12)
    assert sources.resolve(given, "resnet18").n_classes == 12


@pytest.mark.parametrize("name", ["fc.2.weight", "1.8.weight", "classifier.net.weight"])
def test_a_head_of_another_form_is_said(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save({**body, "fc.0.weight": torch.zeros(64, 512), name: torch.zeros(10, 64)}, tmp_path / "mlp.pth")
    load(tmp_path / "mlp.pth")
    assert f"{name} has 10 rows; if these are its classes, add source.n_classes=10" in capsys.readouterr().out
    torch.save(state, tmp_path / "own.pth")
    load(tmp_path / "own.pth")
    assert "n_classes" not in capsys.readouterr().out


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    with pytest.raises(UserError, match=r"not a file of plain tensors \(it is empty\)"):
        load(tmp_path / "empty.pth")


def test_without_a_head_the_classes_are_imagenets(state: State, tmp_path: Path) -> None:
    path = tmp_path / "body.pth"
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    assert sources.resolve(SourceConfig("checkpoint", path=str(path)), "resnet18").n_classes == 1000
    path.write_bytes(b"no weights")  # which is said where they are loaded
    assert sources.resolve(SourceConfig("checkpoint", path=str(path)), "resnet18").n_classes == 1000


@pytest.mark.parametrize("said", ["config", "preprocessor_config"])
def test_normalisation_and_size_are_read_from_the_card_beside(state: State, tmp_path: Path, said: str) -> None:
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.4, 0.4]
    cards = {
        "config": {"architecture": "resnet18", "pretrained_cfg": {"mean": mean, "std": std, "input_size": [3, 96, 96]}},
        "preprocessor_config": {"image_mean": mean, "image_std": std},
    }
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / f"{said}.json").write_text(json.dumps(cards[said]))
    found = sources.resolve(SourceConfig("checkpoint", path=str(tmp_path)), "resnet18")
    assert (found.mean, found.std, found.image_size) == (mean, std, 96 if said == "config" else 224)
    given = SourceConfig("checkpoint", path=str(tmp_path), mean=[0.5] * 3, std=[0.5] * 3, image_size=64)
    found = sources.resolve(given, "resnet18")
    assert (found.mean, found.image_size) == ([0.5] * 3, 64), "what is given goes before"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"pretrained_cfg": 3}', '{"pretrained_cfg": {"mean": [1], "input_size": "x"}}']
)
def test_cards_that_say_nothing_change_nothing(state: State, tmp_path: Path, text: str) -> None:
    save_file(state, tmp_path / "model.safetensors")
    before = sources.resolve(SourceConfig("checkpoint", path=str(tmp_path)), "resnet18")
    (tmp_path / "config.json").write_text(text)
    assert sources.resolve(SourceConfig("checkpoint", path=str(tmp_path)), "resnet18") == before


@pytest.mark.parametrize(("said", "doubted"), [("resnet18", False), ("resnet18_288", False), ("seresnet18", True)])
def test_a_card_of_another_architecture_is_doubted(tmp_path: Path, said: str, doubted: bool) -> None:
    timm = pytest.importorskip("timm")
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": said, "pretrained_cfg": {}}))
    notes = weights.checkpoint(tmp_path, "timm/resnet18", 64).notes
    assert any(note.startswith("warning: ") and said in note for note in notes) == doubted
