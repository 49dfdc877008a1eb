"""Results on disk: written whole, checked when read, never unpickled."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from synpriv.results import locks, store
from synpriv.results.store import Cell

C, Q, K = 6, 3, 4


def save(cell: Cell, seed: int, canaries: str = "same") -> None:
    rng = np.random.default_rng(seed)
    store.save_run(
        cell.run(seed),
        logits=rng.normal(size=(C, Q, K)).astype(np.float32),
        member=rng.random(C) < 0.5,
        labels=np.arange(C) % K,
        true_labels=(np.arange(C) + 1) % K,
        metrics={"cell": cell.name, "seed": seed, "canaries_sha256": canaries},
    )


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    made = Cell(tmp_path, "m-d-c-00000000", 4)
    for seed in range(4):
        save(made, seed)
    return made


def test_a_run_reads_back_as_it_was_saved(cell: Cell) -> None:
    rng = np.random.default_rng(2)
    logits, member = rng.normal(size=(C, Q, K)).astype(np.float32), rng.random(C) < 0.5
    got = cell.evidence([0, 2, 3])
    assert got.logits.shape == (C, 3, Q, K)
    assert got.logits.dtype == np.float32
    np.testing.assert_array_equal(got.logits[:, 1], logits)
    np.testing.assert_array_equal(got.member[:, 1], member)
    np.testing.assert_array_equal(got.labels, np.arange(C) % K)
    np.testing.assert_array_equal(got.true_labels, (np.arange(C) + 1) % K)
    assert [cell.problem(seed) for seed in range(4)] == [None] * 4
    assert cell.trained() == [0, 1, 2, 3]


def test_the_same_evidence_gives_the_same_bytes(cell: Cell) -> None:
    before = (cell.run(1) / store.EVIDENCE).read_bytes()
    save(cell, 1)
    assert (cell.run(1) / store.EVIDENCE).read_bytes() == before


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES = [truncate, flip_a_bit, empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damaged_evidence_is_named(cell: Cell, damage: Callable[[Path], None]) -> None:
    damage(cell.run(2) / store.EVIDENCE)
    problem = cell.problem(2)
    assert problem is not None
    assert str(cell.run(2) / store.EVIDENCE) in problem
    assert ("missing" if damage is Path.unlink else "damaged") in problem
    assert cell.problem(1) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"seed": 2}', b"[]", b"null", b"\xff\xfe"])
def test_damaged_metrics_are_named(cell: Cell, content: bytes) -> None:
    file = cell.run(2) / store.METRICS
    file.write_bytes(content)
    problem = cell.problem(2)
    assert problem is not None
    assert f"{file} is damaged" in problem


def test_a_run_without_metrics_is_not_done(cell: Cell) -> None:
    (cell.run(2) / store.METRICS).unlink()
    assert cell.problem(2) == store.NOT_TRAINED
    assert cell.trained() == [0, 1, 3]


def test_a_killed_save_is_not_done(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """metrics.json is written last: a run that dies before it counts as not trained."""
    written: list[str] = []
    write = store.write_bytes
    monkeypatch.setattr(store, "write_bytes", lambda f, c: (written.append(f.name), write(f, c)))
    save(cell, 0)
    assert written == [store.EVIDENCE, store.METRICS]


def test_runs_about_other_canaries_are_refused(cell: Cell) -> None:
    save(cell, 3, canaries="other")
    with pytest.raises(ValueError, match=r"seed 3 .* saw other canaries than seed 0.*move .* away"):
        cell.evidence([0, 1, 2, 3])


def test_runs_of_another_shape_are_refused(cell: Cell) -> None:
    store.save_run(
        cell.run(1),
        logits=np.zeros((C, Q + 1, K), np.float32),
        member=np.zeros(C, bool),
        labels=np.arange(C) % K,
        true_labels=(np.arange(C) + 1) % K,
        metrics={"seed": 1, "canaries_sha256": "same"},
    )
    with pytest.raises(ValueError, match="seed 1"):
        cell.evidence([0, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    logits = np.zeros((C, Q, K), np.float32)
    logits[3, 1, 2] = bad
    with pytest.raises(ValueError, match=r"not finite.*learning rate"):
        store.save_run(
            tmp_path / "0",
            logits=logits,
            member=np.zeros(C, bool),
            labels=np.zeros(C, np.int64),
            true_labels=np.zeros(C, np.int64),
            metrics={},
        )
    assert not list(tmp_path.rglob("*"))


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(tmp_path / "x.json", {"auc": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x"
    store.write_bytes(file, b"old")

    def fill(stream: BinaryIO) -> None:
        stream.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(file, fill)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_archive_stores_floats_deflates_the_rest_and_is_the_same_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {
        "logits": np.random.default_rng(0).normal(size=(3, 40, 5)).astype(np.float32)[:, ::2],
        "images": np.zeros((50, 1, 8, 8), dtype=np.uint8),
        "heading": np.array("{}"),
    }
    content = store.npz_bytes(**arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert store.npz_bytes(**arrays) == content
    (tmp_path / "x.npz").write_bytes(content)
    for name, array in store.read_arrays(tmp_path / "x.npz").items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        logits, images = archive.getinfo("logits.npy"), archive.getinfo("images.npy")
    assert logits.compress_size == logits.file_size > arrays["logits"].nbytes
    assert images.compress_size < 0.2 * images.file_size


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    def fill(stream: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as error:
        store.write(tmp_path / "x", fill)
    assert error.value.filename == str(tmp_path / "x")


def test_what_a_killed_process_left_is_swept_under_the_lock(cell: Cell) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    end = f"{locks.host()}.{dead.pid}.tmp"
    left = [cell.run(1) / f".evidence.npz.{end}", cell.folder / f".l.json.{end}"]
    alive = cell.folder / f".cell.yaml.{locks.host()}.{os.getpid()}.tmp"
    for file in (*left, alive):
        file.write_bytes(b"half")
    with cell.lock(1):
        assert not left[0].exists()
    with cell.lock():
        assert not left[1].exists()
        assert alive.exists()  # somebody is still writing it
    assert cell.problem(1) is None


def test_a_copied_run_is_not_taken_for_another_seed(cell: Cell) -> None:
    shutil.copytree(cell.run(0), cell.run(1), dirs_exist_ok=True)
    assert "belongs to seed 0" in str(cell.problem(1))


@pytest.mark.parametrize("old", [b'"canaries_sha256"', b"same"])
def test_a_flipped_byte_in_the_metrics_is_found(cell: Cell, old: bytes) -> None:
    file = cell.run(2) / store.METRICS
    file.write_bytes(file.read_bytes().replace(old, old[:-1] + b"x"))
    assert "damaged" in str(cell.problem(2))


def test_a_crafted_pickle_is_not_executed(cell: Cell, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "boom"),)

    np.savez(cell.run(0) / store.EVIDENCE, labels=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        cell.evidence([0])
    assert not (tmp_path / "boom").exists()


def test_the_lock_keeps_a_second_process_out_and_dies_with_its_holder(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "cell", 4)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import time
                from pathlib import Path
                from synpriv.results.store import Cell
                with Cell(Path({str(tmp_path)!r}), "cell", 4).lock(1):
                    print("held", flush=True)
                    time.sleep(60)
            """),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiter = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(f"""
                    from pathlib import Path
                    from synpriv.results.store import Cell
                    print("waiting", flush=True)
                    with Cell(Path({str(tmp_path)!r}), "cell", 4).lock(1):
                        print("entered", flush=True)
                """),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "waiting\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(timeout=1)
        with cell.lock(2):  # another run of the same cell is free
            pass
        holder.kill()  # SIGKILL: no clean-up of any kind
        out, _ = waiter.communicate(timeout=20)
        assert out == "entered\n"
    finally:
        holder.kill()
        holder.wait()
