"""Reading text and JSON: what is wrong, where, and what to do. Writing: whole or not at all, and by one
process at a time, whose helpers end with it."""

import errno
import os
import subprocess
import sys
import time

import pytest

from mmlearn.files import flush, locked, read_json, read_text, write_atomically
from mmlearn.processes import pool


def test_text_is_read_without_its_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffcafé\n".encode())
    assert read_text(tmp_path / "a.txt") == "café\n"


@pytest.mark.parametrize(("content", "reason"), [
    (b"{", "is not valid JSON"), (b"", "is not valid JSON"), (b"\xff\xfe{", "is not UTF-8 text"),
    (b"[" * 100_000, "is nested too deep"), (b"[1]", "holds a list, where an object is expected"),
    (b"null", "holds null, where an object is expected")])
def test_what_is_no_json_object_is_refused_in_one_sentence_that_names_the_file(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as error:
        read_json(path, remedy="make it again")
    assert str(error.value).startswith(str(path)) and str(error.value).endswith("; make it again")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at .*a.json; export or download it again"):
        read_json(tmp_path / "a.json")


def test_other_kinds_may_be_asked_for(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read_json(tmp_path / "a.json", list) == [1, 2]
    assert read_json(tmp_path / "a.json", (dict, list)) == [1, 2]


# Writing

def test_a_full_disk_and_a_missing_permission_name_the_path(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"file/sub cannot be written \(Not a directory\); make room"):
        write_atomically(tmp_path / "file" / "sub" / "a.txt", "x")
    for number, words in ((errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")):
        def fail(*arguments, number=number):
            raise OSError(number, os.strerror(number))
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", fail)
            with pytest.raises(OSError, match=rf"b\.txt cannot be written \({words}\)"):
                write_atomically(tmp_path / "b.txt", "x")
        with monkeypatch.context() as patched:
            patched.setattr(os, "mkdir", fail)
            with pytest.raises(OSError, match=rf"new cannot be written \({words}\)"):
                write_atomically(tmp_path / "new" / "a.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_held_by_one_process_and_the_other_is_told_by_which(tmp_path):
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "a.txt").write_text("x")
        code = ("import sys\nfrom mmlearn.files import locked\n"
                "try:\n with locked(sys.argv[1]): print('held')\nexcept OSError as error: print(error)")
        said = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True,
                              text=True, check=True).stdout
        assert said.startswith(f"{tmp_path / 'run'} is being written by process {os.getpid()} on ")
        assert said.count("\n") == 1 and "; wait until that has ended, end it, or write elsewhere" in said
        with pytest.raises(BlockingIOError), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "run", ".lock-val"):                 # another name, another lock
            pass
    with locked(tmp_path / "run"):
        pass


def test_the_lock_of_a_killed_process_is_free_and_what_it_left_is_swept(tmp_path):
    code = ("import os, signal, sys\nfrom mmlearn.files import locked\nwith locked(sys.argv[1]):\n"
            " open(sys.argv[1] + '/.model.safetensors-abc.partial', 'w').close()\n"
            " os.mkdir(sys.argv[1] + '/.partial-step-00000001')\n os.abort()")
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True,
                            check=False)
    assert killed.returncode != 0 and len(list((tmp_path / "run").glob("*partial*"))) == 2
    with locked(tmp_path / "run"):
        assert not list((tmp_path / "run").glob("*partial*"))


def test_a_folder_in_which_nothing_came_about_is_gone_again(tmp_path):
    with pytest.raises(ValueError, match="no"), locked(tmp_path / "run"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_a_folder_is_not_flushed_where_it_cannot_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "open", lambda *arguments: pytest.fail("Windows opens no folder"))
    flush(tmp_path)


# Processes

def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this platform has no fork"))])
def test_the_workers_of_a_killed_parent_end_with_it(tmp_path, method):
    with pool(2, None, "spawn") as workers:
        assert list(workers.map(square, range(4))) == [0, 1, 4, 9]
    program = tmp_path / "parent.py"
    program.write_text("import os, sys, time\nfrom mmlearn.processes import pool\n"
                       "def work(i):\n os.write(1, b'%d\\n' % os.getpid())\n time.sleep(600)\n"
                       "if __name__ == '__main__':\n with pool(2, None, sys.argv[1]) as workers:\n"
                       "  list(workers.map(work, range(2)))\n")
    parent = subprocess.Popen([sys.executable, str(program), method], stdout=subprocess.PIPE, text=True)
    with parent.stdout as lines:
        workers = [int(lines.readline()) for _ in range(2)]
        parent.kill()
        parent.wait()
        begun = time.monotonic()
        assert lines.read() == ""               # the pipe closes when the last of its writers has ended
    assert time.monotonic() - begun < 60 and workers[0] != workers[1]
