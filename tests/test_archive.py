"""Archives that lie, explode or are damaged are refused in one line before they are read."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from synpriv.data import archive, datasets
from synpriv.data.archive import readable

IMAGES, LABELS = np.arange(200 * 64, dtype=np.uint8).reshape(200, 8, 8), np.arange(200) % 4
PKZIP_METHOD, ENCRYPTED = 97, 1


def member(shape: tuple[int, ...], content: bytes, descr: str = "|u1") -> bytes:
    """An npy file whose header says `shape`."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def packed(file: Path, images: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as out:
        out.writestr("images.npy", images)
        out.writestr("labels.npy", member((200,), LABELS.tobytes(), "<i8"))
    return file


def plain(tmp_path: Path) -> bytearray:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    return bytearray((tmp_path / "x.npz").read_bytes())


def flagged(content: bytearray, *, offset: int, value: int) -> bytes:
    """All members' headers with another byte, in the archive and in its directory."""
    for magic, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = content.find(magic)
        while at >= 0:
            content[at + offset + more] = value
            at = content.find(magic, at + 4)
    return bytes(content)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((10**9, 300, 300), "90000000000000 bytes, and holds 12800"),
        ((2**62, 8, 8), "and holds 12800"),
        ((10, 8, 8), "640 bytes, and holds 12800"),
        ((-200, 8, 8), "and holds 12800"),
    ],
)
def test_a_header_that_lies_about_its_shape_allocates_nothing(
    shape: tuple[int, ...], words: str, tmp_path: Path
) -> None:
    file = packed(tmp_path / "lie.npz", member(shape, IMAGES.tobytes()))
    with pytest.raises(ValueError, match=words) as error:
        datasets.npz(str(file))
    assert str(error.value).startswith(f"{file}: not a readable npz archive (images.npy is said")


def test_a_small_archive_that_expands_beyond_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((200, 200, 200), np.uint8)
    file = tmp_path / "bomb.npz"
    np.savez_compressed(file, images=images, labels=LABELS)
    assert file.stat().st_size < 50_000
    monkeypatch.setattr(archive, "memory", lambda: 4_000_000)
    monkeypatch.setattr(archive, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"its arrays take 8 MB: must be less than the 4 MB"):
        datasets.npz(str(file))


def test_labels_that_do_not_fit_are_refused_before_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS[:5])
    monkeypatch.setattr(archive, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"labels are int64 \(5,\); must be integers \[200\]"):
        datasets.npz(str(tmp_path / "x.npz"))


def test_damaged_encrypted_and_foreign_archives_are_one_line(tmp_path: Path) -> None:
    whole = bytes(plain(tmp_path))
    broken = {
        "cut": whole[: len(whole) // 2],
        "crc": whole[:400] + bytes(8) + whole[408:],
        "method": flagged(plain(tmp_path), offset=8, value=PKZIP_METHOD),
        "encrypted": flagged(plain(tmp_path), offset=6, value=ENCRYPTED),
        "empty": b"",
    }
    for name, content in broken.items():
        file = tmp_path / f"{name}.npz"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.npz: not a readable npz archive \(.+\)$"):
            datasets.npz(str(file))
    for header in (b"\x93NUMPY\x01\x00\x20\x00" + b"(" * 32, b"\x93NUMPY\x09\x00abc", b"hi"):
        file = packed(tmp_path / "header.npz", header)
        with pytest.raises(ValueError, match="not a readable npz archive") as error:
            datasets.npz(str(file))
        assert "\n" not in str(error.value)


def test_a_single_array_says_how_to_write_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"single array; write np\.savez"):
        datasets.npz(str(tmp_path / "x.npz"))


def test_objects_are_refused_where_they_are_read_and_left_out_elsewhere(tmp_path: Path) -> None:
    objects = np.array([{}, 1], dtype=object)
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS, meta=objects)
    assert datasets.npz(str(tmp_path / "x.npz")).notes == ("arrays left out: meta",)
    np.savez(tmp_path / "y.npz", images=IMAGES, labels=objects)
    with pytest.raises(ValueError, match="holds Python objects"):
        datasets.npz(str(tmp_path / "y.npz"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_any_compression_gives_the_same_images(method: int, tmp_path: Path) -> None:
    file = packed(tmp_path / "x.npz", member(IMAGES.shape, IMAGES.tobytes()), method)
    source = datasets.npz(str(file), test_rate=0.25)
    assert len(source.private) + len(source.test) == 200


def test_bytes_are_readable() -> None:
    assert [readable(n) for n in (5, 1500, 3_220_000_000, 10**17)] == [
        *("5 bytes", "1.5 kB", "3.22 GB"),
        "100 PB",
    ]
    assert 10**8 < archive.memory() < 10**15
