"""Files of weights, read by their content whatever their name, without running code that they may hold."""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sweep.errors import UserError
from sweep.models.shards import named, shards

_MOST_CLASSES = 200  # other than tensors, in one file
_MORE = "its pickle holds more than tensors, or is damaged"
_TORCH = b"\x80\x02\x8a\n"  # before 1.6: a pickle that begins with a number
_ZIP = b"PK\x03\x04"  # since
_CUT = re.compile("unexpected EOF|Ran out of input|truncated|unexpected pos|corrupted|storage has wrong", re.IGNORECASE)
_DAMAGED = "it is cut short or damaged; copy or fetch it again"
_DAMAGE = (
    *(SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),  # a pickle that makes no sense
)


OTHERS = {  # how files begin that are no weights of torch, and what they are
    b"version h": "it is a pointer of Git LFS; fetch the file itself, with git lfs pull",
    b"<": "it is a page of text, as a download leaves that has failed; fetch it again",
    b"\x89HDF": "it is HDF5, as Keras writes; convert it to safetensors",
    b"\x1f\x8b": "it is compressed by gzip; unpack it",
    b"7z\xbc\xaf": "it is an archive of 7-Zip; unpack it",
    b"BZh": "it is compressed by bzip2; unpack it",
    b"\xfd7zXZ": "it is compressed by xz; unpack it",
    b"(\xb5/\xfd": "it is compressed by zstd; unpack it",
    b"GGUF": "it is GGUF, as llama.cpp reads; use the model's safetensors",
    b"\x93NUMPY": "it is one array of numpy; save a state dict with torch.save, as safetensors, or with numpy.savez",
}
# What makes an array again, under its name before numpy 2 and since; objects in it are read as any others are.
_ARRAYS: tuple[Any, ...] = (
    *((np.array(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *(np.ndarray, np.dtype),
    *{type(np.dtype(code)) for code in np.typecodes["All"]},
)


class Content(NamedTuple):
    """What a file holds, on the CPU.

    ignored: the classes of other objects in it, in whose place stand inert ones.
    """

    found: Any
    ignored: tuple[str, ...] = ()


def read(path: Path) -> Content:
    """Return what a file holds; raise UserError if it is damaged, or cannot be opened without running its code.

    Formats: safetensors, what torch.save wrote in any of its versions, the index of either in shards, and numpy's npz.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if not start:
            raise not_plain(path, "it is empty")
        if what := _other(start):
            raise UserError(f"source.path={path}: is no file of weights of torch: {what}")
        if start[8:9] == b"{":  # after the length of safetensors' header
            return Content(load_file(path))
        if start[:1] == b"{":
            return Content(_of_shards(path))
        return _pickle(path)
    except UserError:  # a ValueError
        raise
    except _DAMAGE as error:
        raise not_plain(path, _reason(path, start, error)) from error


def _other(start: bytes) -> str | None:
    """Return what a file is that is no weights of torch, by how it begins; None if it may be weights."""
    for begins, what in OTHERS.items():
        if start.startswith(begins):
            return what
    if start[257:262] == b"ustar":
        return "it is an archive of tar; unpack it"
    if re.match(rb"\x08[\x01-\x20](?:\x12.(?:pytorch|tf2onnx|onnx)|\x3a|\x1a)", start, re.DOTALL):  # its version first
        return "it is ONNX, which has a network's steps and other names; save model.state_dict() where it was made"
    return None


def _reason(path: Path, start: bytes, error: Exception) -> str:
    """Return why a file cannot be read, by how it begins and what was raised."""
    first = " ".join(str(error).split()).split(". ")[0][:200]
    of_torch = start.startswith(_TORCH)
    if (start.startswith(_ZIP) and not zipfile.is_zipfile(path)) or isinstance(error, zipfile.BadZipFile):
        return _DAMAGED
    if (of_torch and _CUT.search(first)) or re.search("incomplete metadata|not fully", first):
        return _DAMAGED
    if all(each in b"\t\n\r" or 32 <= each < 127 for each in start):
        return "it is text"
    if first.startswith("Weights only") or not isinstance(error, SafetensorError | OSError | EOFError):
        plain = start[:1] == b"\x80" and not of_torch
        return "pickle.dump wrote it: code may run when it is opened" if plain else _MORE
    return first


def _of_shards(index: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of all shards; raise UserError if the index names one that none has."""
    found = {key: value for shard in shards(index) for key, value in read(shard).found.items()}
    absent = sorted(named(index) - found.keys())
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise UserError(
            f"source.path={index}: the index names {', '.join(absent[:3])}{more}, and no shard has it; fetch index and "
            "shards again"
        )
    return found


def not_plain(path: Path, reason: str) -> UserError:
    """Return the error for a file that is refused."""
    return UserError(
        f"source.path={path}: not a file of plain tensors ({reason}); save model.state_dict() as .safetensors"
    )


def _pickle(path: Path) -> Content:
    """Return what torch.save wrote; classes that torch does not hold for harmless are replaced by inert ones."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise not_plain(path, "it is TorchScript, which holds code")
        if names and all(name.endswith(".npy") for name in names):
            with np.load(path, allow_pickle=False) as arrays:
                return Content(_unwrapped(dict(arrays)))
        if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
            inside = next((name for name in names if not name.endswith("/")), "nothing")
            raise not_plain(path, f"it is a zip archive with {inside} in it; unpack that, and give its path")
    inert: dict[str, type] = {}
    for _ in range(_MOST_CLASSES):
        safe: Any = [*_ARRAYS, *((kind, name) for name, kind in inert.items())]
        try:
            with torch.serialization.safe_globals(safe), warnings.catch_warnings(), path.open("rb") as file:
                warnings.simplefilter("ignore", UserWarning)  # of pickle protocols; what matters is raised
                return Content(_unwrapped(torch.load(file, map_location="cpu", weights_only=True)), tuple(inert))
        except pickle.UnpicklingError as error:
            if not _replace_one_more(str(error), inert):
                refused = re.search(r"GLOBAL (\S+)", str(error))
                culprit = refused[1] if refused else next(iter(inert), None)
                if culprit is None:
                    raise
                raise not_plain(path, f"it would run {culprit} when opened") from error
    raise not_plain(path, f"it holds more than {_MOST_CLASSES} kinds of objects")


def _replace_one_more(error: str, inert: dict[str, type]) -> bool:
    """Add the class that torch refused; return whether there is anything new to try."""
    unknown = re.search(r"GLOBAL (\S+) was not an allowed global", error)
    if unknown:
        name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
        if name in inert:
            return False
        inert[name] = type(f"Inert{len(inert)}", (_Inert,), {})
        return True
    # A dictionary of another class: torch fills plain ones alone.
    filled = re.search(r"Can only SETITEMS? .* but got <class '[\w.]*\.(Inert\d+)'>", error)
    for name, kind in inert.items():
        if filled and kind.__name__ == filled[1]:
            inert[name] = OrderedDict
            return True
    return False


def _unwrapped(found: Any) -> Any:
    """Return what a file holds, with tensors in place of arrays, and of a whole model, by their usual names."""
    if isinstance(found, np.ndarray) and found.dtype.kind in "biuf":
        return torch.from_numpy(np.array(found, found.dtype.newbyteorder("="), order="C"))
    if isinstance(found, dict):
        return {key: _unwrapped(value) for key, value in found.items()}
    if type(found) in (list, tuple) and any(isinstance(each, dict | _Inert) for each in found):
        return {str(place): _unwrapped(each) for place, each in enumerate(found)}
    return dict(_tensors(found, "")) if isinstance(found, _Inert) and found.layers is not None else found


def _tensors(layer: "_Inert", prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    parts = layer.layers or {}
    for group in ("_parameters", "_buffers", "_modules"):
        for name, value in dict(parts.get(group) or {}).items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, _Inert):
                yield from _tensors(value, f"{prefix}{name}.")


class _Inert(list[Any]):
    """Stands for an object of any class, and does nothing with what it is given; of a model it keeps the tensors."""

    layers: dict[str, Any] | None = None

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and {"_parameters", "_buffers", "_modules"} <= state.keys():
            self.layers = state
