"""Files on the disk: whole or not at all, one writer at a time, names that fit, whatever the file system can do."""

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from conftest import refuses
from processes import ROOT

from robust_data import files


@pytest.fixture(params=["flock", errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK], ids=str)
def file_system(request, monkeypatch):
    """One with locks, and others that refuse them each in a way of its own."""
    if request.param != "flock":

        def refuse(*arguments):
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", refuse)


def kill_a_process_inside(context):
    """Enter a context in a process of its own, which is killed there."""
    child = os.fork()
    if child == 0:
        try:
            with context:
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_two_processes_at_once_each_write_a_whole_file(tmp_path):
    path = tmp_path / "file"
    with files.atomic_write(path, "w") as first:
        first.write("first")
        first.flush()
        code = f"from robust_data import files; files.write_json({str(path)!r}, {{'second': 'which is longer'}})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        assert json.loads(path.read_text()) == {"second": "which is longer"}
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    path = tmp_path / "file"
    kill_a_process_inside(files.atomic_write(path))
    assert len(os.listdir(tmp_path)) == 1 and not path.exists()
    with files.atomic_write(path, "w") as file:
        file.write("a")
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o007, 0o660)])
def test_a_new_file_has_the_mode_that_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.atomic_write(tmp_path / "file") as file:
            file.write(b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_shared_file_keeps_its_mode_and_leaves_no_lock(tmp_path, file_system):
    path = tmp_path / "results.csv"
    files.rewrite(path, lambda text: text + "a\n")
    path.chmod(0o664)
    files.rewrite(path, lambda text: text + "b\n")
    assert path.read_text() == "a\nb\n" and stat.S_IMODE(path.stat().st_mode) == 0o664
    assert os.listdir(tmp_path) == ["results.csv"]


def test_writers_at_once_lose_no_line(tmp_path):
    path, children = tmp_path / "results.csv", []
    for who in "abcd":
        if (child := os.fork()) == 0:
            for number in range(20):
                files.rewrite(path, lambda text, line=f"{who}{number}\n": text + line)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert sorted(path.read_text().split()) == sorted(f"{who}{number}" for who in "abcd" for number in range(20))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\x00")
    with refuses("log.jsonl"):
        files.rewrite(tmp_path / "log.jsonl", lambda text: text + "a")


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path, file_system, monkeypatch):
    monkeypatch.setattr(files, "SOFT_PATIENCE", 0.1)
    path = tmp_path / "run.state"
    with files.locked(path):
        with pytest.raises(TimeoutError, match="run.state.(soft)?lock"):
            with files.locked(path, 0.1):
                pass
    with files.locked(path, 0.1):
        assert not path.exists()
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path, file_system):
    path = tmp_path / "run.state"
    kill_a_process_inside(files.locked(path))
    assert len(os.listdir(tmp_path)) == 1
    with files.locked(path, 0.1):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["short", "x" * 200, "ä" * 100])
def test_a_name_that_fits_stays(name):
    assert files.fitting(name) == name


@pytest.mark.parametrize("name", ["x" * 201, "ä" * 130, "x" * 199 + "ä"])
def test_a_name_that_does_not_fit_ends_in_a_hash_of_the_whole(name):
    short = files.fitting(name)
    assert 150 < len(os.fsencode(short)) <= 200 and name.startswith(short.rpartition("-")[0])
    assert short != files.fitting(name + "y")


def test_json_holds_null_for_what_is_no_number(tmp_path):
    content = {"loss": float("nan"), "more": [1.5, (float("inf"),)], "name": "NaN"}
    files.write_json(tmp_path / "file.json", content)
    text = (tmp_path / "file.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"loss": None, "more": [1.5, [None]], "name": "NaN"}


def test_the_output_folder_is_made_and_nothing_is_left_in_it(tmp_path):
    assert os.listdir(files.output_folder(str(tmp_path / "a" / "b"))) == []


@pytest.mark.parametrize("path, message", [("", "--output_dir '' names no folder"), ("a\0b", "cannot be written to")])
def test_what_is_no_folder_is_refused(path, message):
    with refuses(message):
        files.output_folder(path)


def test_a_writer_that_hits_a_quota_raises_the_systems_error(tmp_path):
    with pytest.raises(OSError, match="File too large"), files.full_disk_is_an_oserror(tmp_path):
        raise RuntimeError("Error while serializing: I/O error: File too large (os error 27)")
