"""Whether locks reach other machines: mount tables as they are found, a lock that was taken."""

import errno
import fcntl
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from synpriv.results import sharing

# As proc(5) writes them: a root, home on NFS 4 inside it, scratch on Lustre, a folder with a space.
TABLE = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
41 22 0:45 / /home rw,relatime shared:9 - nfs4 filer:/home rw,vers=4.2,hard,{home},addr=10.0.0.1
42 22 0:46 / /scratch rw,noatime - lustre mgs@tcp:/scratch rw,{scratch},lazystatfs
43 22 0:47 / /my\\040data rw - nfs filer:/data rw,vers=3,nolock,local_lock=all
44 43 0:48 / /my\\040data/own rw - xfs /dev/sdb rw
"""
GOOD = TABLE.format(home="local_lock=none", scratch="flock")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/results", "ext4"),
        ("/home/ada/results", "nfs4"),
        ("/homes", "ext4"),
        ("/scratch", "lustre"),
        ("/my data/x", "nfs"),
        ("/my data/own/x", "xfs"),
    ],
)
def test_a_folder_lies_on_the_innermost_mount_around_it(folder: str, kind: str) -> None:
    mount = sharing.mount_of(Path(folder), GOOD)
    assert mount is not None
    assert mount.kind == kind


@pytest.mark.parametrize(
    ("folder", "table", "says"),
    [
        ("/srv/r", GOOD, None),
        ("/home/r", GOOD, None),
        ("/home/r", TABLE.format(home="local_lock=posix", scratch="flock"), None),
        ("/scratch/r", GOOD, None),
        ("/home/r", TABLE.format(home="local_lock=flock", scratch="flock"), "local_lock=flock"),
        ("/scratch/r", TABLE.format(home="x", scratch="localflock"), "localflock"),
        ("/scratch/r", TABLE.format(home="x", scratch="noflock"), "noflock"),
        ("/my data/r", GOOD, "local_lock=all, nolock"),
        ("/my data/own/r", GOOD, None),
    ],
)
def test_mounts_whose_locks_stay_on_one_machine_are_refused(
    folder: str, table: str, says: str | None
) -> None:
    if says is None:
        sharing.require_shared(Path(folder), table)
        return
    with pytest.raises(ValueError, match=f"is mounted with {says}: file locks do not") as error:
        sharing.require_shared(Path(folder), table)
    assert "\n" not in str(error.value)


def test_this_machine_s_own_table_is_read(tmp_path: Path) -> None:
    sharing.require_shared(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_in_one_line(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "not" / "there"
    sharing.require_locks(results)

    def flock(*_: object) -> None:
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ValueError, match="has no file locks") as error:
        sharing.require_locks(results)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_whose_lock_holds_is_no_error(tmp_path: Path) -> None:
    with sharing.presence(tmp_path):
        sharing.require_presence(tmp_path)


def test_a_lock_that_can_be_taken_while_its_holder_lives_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_BEAT_S", 0.05)
    with sharing.presence(tmp_path):
        # As on a machine that the lock does not reach: here, by a lock file that is another one.
        (tmp_path / sharing._PRESENT).unlink()
        (tmp_path / sharing._PRESENT).touch()
        with pytest.raises(ValueError, match="does not hold on"):
            sharing.require_presence(tmp_path, patience_s=10.0)


def test_a_launcher_does_not_make_a_deleted_folder_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_BEAT_S", 0.02)
    folder = tmp_path / "results" / ".launch-x"
    folder.mkdir(parents=True)
    with sharing.presence(folder):
        while sharing._last_beat(folder) in (b"", b"0"):
            time.sleep(0.01)
        folder.parent.rename(tmp_path / "away")
        time.sleep(0.1)
        assert not folder.parent.exists()


def test_a_launcher_that_is_dead_is_no_error(tmp_path: Path) -> None:
    with sharing.presence(tmp_path):
        pass
    sharing.require_presence(tmp_path, patience_s=0.1)


def test_a_node_without_the_results_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not see .*file system that all nodes share"):
        sharing.require_presence(tmp_path)


def test_a_lock_taken_in_the_same_moment_by_another_node_is_no_alarm(tmp_path: Path) -> None:
    with sharing.presence(tmp_path):
        errors = []

        def look() -> None:
            try:
                sharing.require_presence(tmp_path, patience_s=0.1)
            except ValueError as error:
                errors.append(error)

        nodes = [threading.Thread(target=look) for _ in range(4)]
        for node in nodes:
            node.start()
        for node in nodes:
            node.join()
        assert errors == []
        assert FileLock(tmp_path / sharing._PRESENT).is_locked is False
