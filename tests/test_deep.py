"""Images of more than 8 bits: whatever their format, their values are read, and what is black and white is said."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from sweep.cli.inspect import inspect
from sweep.config import DataConfig
from sweep.data import decode, deep
from sweep.data import task as data
from sweep.errors import UserError

SIDE, TWELVE = 12, 4095  # pixels; the highest of 12 bits
GREY, COLOUR, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 4, 6  # PNG's colour types
Values = npt.NDArray[Any]


def png(values: Values, kind: int) -> bytes:
    """Return a PNG of 16 bits with these values (H, W, C), which PIL cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    made = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        made += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return made


def tiff(values: Values, **how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **how)
    return file.getvalue()


def twelve(channels: int, alpha: bool = False) -> Values:
    """Return values of 12 bits (H, W, C) from black to white; where there is alpha, it is opaque."""
    rng = np.random.default_rng(channels)
    values = rng.integers(0, TWELVE + 1, (SIDE, SIDE, channels)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, TWELVE
    if alpha:
        values[..., -1] = 65535
    return values


FILES: dict[str, tuple[str, bytes, Values]] = {
    "grey PNG": ("png", png(twelve(1), GREY), twelve(1)),
    "colour PNG": ("png", png(twelve(3), COLOUR), twelve(3)),
    "grey PNG with alpha": ("png", png(twelve(2, True), GREY_ALPHA), twelve(2, True)[..., :1]),
    "colour PNG with alpha": ("png", png(twelve(4, True), COLOUR_ALPHA), twelve(4, True)[..., :3]),
    "grey TIFF": ("tif", tiff(twelve(1)[..., 0]), twelve(1)),
    "colour TIFF": ("tif", tiff(twelve(3), photometric="rgb"), twelve(3)),
    "colour TIFF, big end first": ("tiff", tiff(twelve(3), photometric="rgb", byteorder=">"), twelve(3)),
    "colour TIFF, packed": ("tif", tiff(twelve(3), photometric="rgb", compression="zlib"), twelve(3)),
    "colour TIFF, packed, big end first": (
        "tif",
        tiff(twelve(3), photometric="rgb", compression="zlib", byteorder=">"),
        twelve(3),
    ),
    "colour TIFF with alpha": (
        "tif",
        tiff(twelve(4, True), photometric="rgb", extrasamples=["unassalpha"]),
        twelve(4, True)[..., :3],
    ),
    "TIFF of 32 bits": ("tif", tiff(twelve(1)[..., 0].astype(np.uint32) * 2**20), twelve(1)),
    "TIFF of 32 bits with a sign": ("tif", tiff(twelve(1)[..., 0].astype(np.int32) - 2000), twelve(1)),
    "TIFF of 16 bits with a sign": ("tif", tiff(twelve(1)[..., 0].astype(np.int16) - 2000), twelve(1)),
    "TIFF of 8 bits with a sign": ("tif", tiff((twelve(1)[..., 0] // 16 - 128).astype(np.int8)), twelve(1) // 16),
    "TIFF of floats": ("tif", tiff(twelve(1)[..., 0].astype(np.float32) / TWELVE), twelve(1)),
}


def fill(root: Path, suffix: str, content: bytes) -> DataConfig:
    """Return a folder with ten images in each of two classes, all of these bytes."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(10):
            (root / name / f"{number}.{suffix}").write_bytes(content)
    return DataConfig(name="image_folder", root=str(root))


@pytest.mark.parametrize("kind", FILES)
def test_the_values_of_all_images_are_read_and_scaled_by_their_range(tmp_path: Path, kind: str) -> None:
    suffix, content, values = FILES[kind]
    task = data.load(fill(tmp_path, suffix, content), SIDE)
    wanted = np.broadcast_to(255 * (values / values.max()), (SIDE, SIDE, 3)).transpose(2, 0, 1)
    assert np.abs(task.fit.images[0].astype(float) - wanted).max() <= 1


@pytest.mark.parametrize("kind", FILES)
def test_headers_tell_what_is_deep(kind: str) -> None:
    _, content, _ = FILES[kind]
    with decode.opened(content) as image:
        assert deep.is_deep(image)
    for mode in ("L", "RGB", "RGBA", "P", "1"):
        file = io.BytesIO()
        Image.new(mode, (4, 4)).save(file, "PNG")
        with decode.opened(file.getvalue()) as image:
            assert not deep.is_deep(image)


@pytest.mark.parametrize("kind", ["grey PNG", "colour PNG", "colour TIFF", "TIFF of 32 bits"])
def test_images_of_8_bits_do_not_hide_those_of_16_beside_them(tmp_path: Path, kind: str) -> None:
    suffix, content, values = FILES[kind]
    config = fill(tmp_path, suffix, content)
    for name in ("a", "b"):  # first in order, and of the same suffix
        Image.new("RGB", (SIDE, SIDE), "white").save(tmp_path / name / f"0.{suffix}")
    task = data.load(config, SIDE)
    assert sorted({int(image.min()) for image in task.fit.images}) == [0, 255]
    (warning,) = [note for note in data.notes(config) if note.startswith("warning")]
    assert warning.startswith("warning: 18 of 20 images have more than 8 bits (such as 1.")
    config.pixel_range = [0, 2 * int(values.max()) if kind != "TIFF of 32 bits" else 2**33]
    assert all(
        image.min() == 0 and image.max() < 140 for image in data.load(config, SIDE).fit.images if image.min() < 255
    )


def test_a_range_that_changes_nothing_is_said(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "PNG")
    config = fill(tmp_path, "png", file.getvalue())
    assert data.notes(config) == []
    (warning,) = data.notes(replace(config, pixel_range=[0, 4095]))
    assert "it changes nothing" in warning
    assert "[0, 4095]" in warning


def test_alpha_and_turn_stay() -> None:
    values = twelve(4)
    values[..., 3] = 0
    values[6:, :, 3] = 65535
    made = decode.decode(png(values, COLOUR_ALPHA), SIDE, (0, TWELVE))
    assert made[:, :6].min() == 255
    assert made[:, 6:].min() < 100
    turned = tiff(twelve(3), photometric="rgb", extratags=[(deep.ORIENTATION, "H", 1, 6, True)])
    plain = tiff(twelve(3), photometric="rgb")
    one, other = (decode.decode(each, SIDE, (0, TWELVE)) for each in (turned, plain))
    assert np.array_equal(one, np.rot90(other, -1, (1, 2)))


def test_what_is_no_number_is_black_and_infinity_is_an_end() -> None:
    numbers = np.array([np.nan, -np.inf, np.inf, 0.5, 3e38])
    assert deep.levels(numbers, (0, 1)).tolist() == [0, 0, 255, 128, 255]
    assert deep.levels(np.array([-1e308, 1e308]), (0, 1e-300)).tolist() == [0, 255]


@pytest.mark.parametrize("packed", [None, "zlib"])
def test_planes_of_16_bits_are_refused_not_read_as_noise(tmp_path: Path, packed: str | None) -> None:
    planes = np.moveaxis(twelve(3), 2, 0)
    content = tiff(planes, photometric="rgb", planarconfig="separate", compression=packed)
    config = fill(tmp_path, "tif", content)
    with pytest.raises(UserError, match=r"a plane each; data.channels=\[0,1,2\] reads them"):
        data.load(config, SIDE)
    read = data.load(replace(config, channels=[0, 1, 2]), SIDE).fit.images[0].astype(float)
    assert np.abs(read - 255 * (planes / TWELVE)).max() <= 1


def test_bands_of_16_bits_are_read_whole_and_not_hidden_by_one_of_8(tmp_path: Path) -> None:
    config = fill(tmp_path, "png", png(twelve(3), COLOUR))
    config = replace(config, channels=[2, 0])
    Image.new("RGB", (SIDE, SIDE), "white").save(tmp_path / "a/0.png")
    task = data.load(config, SIDE)
    wanted = 255 * (twelve(3).transpose(2, 0, 1)[[2, 0]] / TWELVE)
    assert min(np.abs(image.astype(float) - wanted).max() for image in task.fit.images) <= 1
    assert any("18 of 20" in note or "19 of 20" in note for note in data.notes(config))


@pytest.mark.parametrize("suffix", ["gif", "png", "apng", "webp", "tif"])
def test_of_several_frames_the_first_is_read_and_said(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (SIDE, SIDE), (level,) * 3) for level in (255, 0))
    file = io.BytesIO()
    form = {"apng": "PNG", "tif": "TIFF"}.get(suffix, suffix.upper())
    first.save(file, form)
    assert data.notes(fill(tmp_path / "still", suffix, file.getvalue())) == []
    config = fill(tmp_path / "moving", suffix, file.getvalue())
    first.save(tmp_path / f"moving/a/3.{suffix}", form, save_all=True, append_images=[second])
    assert data.notes(config) == [f"of 1 files with several frames (3.{suffix}) the first is read"]
    assert data.load(config, SIDE).fit.images.min() == 255


def test_inspect_names_the_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "images", "png", png(twelve(3), COLOUR))
    inspect(["data=image_folder", f"data.root={tmp_path / 'images'}", "pretrained=false"])
    assert "20 PNG with 3 channels of 16 bits" in capsys.readouterr().out


def test_what_is_read_nearly_black_is_a_warning(tmp_path: Path) -> None:
    """Rows of a parquet file are of 16 bits where the files say so, whatever their range."""
    images = [{"bytes": png(twelve(1), GREY)} for _ in range(20)]
    table = pa.table({"image": images, "label": [number % 2 for number in range(20)]})
    pq.write_table(table, tmp_path / "train.parquet")
    dim = DataConfig(name="parquet", root=str(tmp_path / "train.parquet"))
    (note,) = [note for note in data.load(dim, SIDE).notes if "nearly black" in note]
    assert note.startswith("warning: 16 of 16 images that were looked at are nearly black, such as train.parquet row")
    assert not any(
        "black" in note for note in data.load(fill(tmp_path / "scaled", "png", png(twelve(1), GREY)), SIDE).notes
    )
