"""Where the package's data are, and files that are whole or absent: written under another name, flushed, then
renamed; in a folder that one process at a time may write into."""

import glob
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import time
from typing import IO, Any

from filelock import FileLock, Timeout

PACKAGE = Path(__file__).parent
DAY = 86_400                    # seconds, after which nobody still writes a file that was not touched


def package_data(*parts: str) -> Path:
    """A file or folder of what comes with the package: ``results``, ``checkpoints``, ``scenes-sample``.

    In an installed package it lies beside the modules, in a clone in the folder ``data`` of the repository.
    """
    installed = PACKAGE / "_data"
    return (installed if installed.is_dir() else PACKAGE.parent / "data").joinpath(*parts)


def read_text(path: str | Path, remedy: str = "check the path") -> str:
    """The text of a file, in UTF-8 (a byte order mark is dropped).

    Raises ``FileNotFoundError`` where there is no file, ``ValueError`` for anything but UTF-8; both name the
    file and end with ``remedy``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; {remedy}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise ValueError(f"{path} is not UTF-8 text ({where}); {remedy}") from None


def read_json(path: str | Path, kind: type | tuple[type, ...] = dict,
              remedy: str = "export or download it again") -> Any:
    """What a JSON file holds, which must be of ``kind`` (an object, unless said otherwise).

    Raises ``FileNotFoundError`` where there is no file and ``ValueError`` for text that is no JSON, is nested
    too deep to read, or holds something else; both name the file and end with ``remedy``.
    """
    text = read_text(path, remedy)
    try:
        content = json.loads(text)
    except ValueError as error:                 # also a number of more digits than Python turns into one
        raise ValueError(f"{path} is not valid JSON ({error}); {remedy}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deep to be read; {remedy}") from None
    if not isinstance(content, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(_JSON_NAMES[k] for k in kinds)
        found = _JSON_NAMES.get(type(content), "null")
        raise ValueError(f"{path} holds {found}, where {wanted} is expected; {remedy}")
    return content


def shown(value: bytes | str) -> str:
    """A piece of a file as an error tells it, cut to 40 letters."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    text = text.strip()
    return repr(text if len(text) <= 40 else text[:39] + "…")


_JSON_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a string", int: "a number",
                                float: "a number", bool: "true or false"}


# Writing ----------------------------------------------------------------------------------------------------

class NotWritten(OSError):
    """A file or folder could not be written; the sentence names it and says why."""


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A full disk, a missing permission and the like within this block become one sentence that names
    ``path``."""
    try:
        yield
    except (NotWritten, BlockingIOError, ConnectionError):      # said already; held by another; a closed pipe
        raise
    except OSError as error:
        raise NotWritten(f"{path} cannot be written ({error.strerror or error}); make room or change the "
                         f"permissions, or write elsewhere") from error


def check_writable(path: str | Path) -> None:
    """Raises ``ValueError`` if a folder is where ``path`` shall stand, or no file can be made there, before
    the work for it is done; folders that are not there yet are made later."""
    place = Path(os.path.realpath(path))
    try:
        if place.is_dir():
            raise ValueError(f"{path} is a folder; give the name of a file")
        folder = next(one for one in place.parents if one.exists())
        with tempfile.NamedTemporaryFile(prefix=f".{place.name}-", suffix=".partial", dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); give another place or "
                         f"name") from None


def make_folder(path: str | Path) -> Path:
    """A folder and those above it, where they are missing. Raises ``OSError`` with its path."""
    path = Path(path)
    if not path.is_dir():
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
    return path


def flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, has reached the disk.

    Windows cannot open a folder as a file; its file system writes names down by itself.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write bytes into, which is at ``path`` when the block has ended well: whoever reads ``path``
    sees the old file or the new one, never a part.

    A link stays, and what it leads to is written. The folder is made if it is missing. What processes that
    were killed have left of this file is removed when it is a day old. Raises ``OSError``, with the path, if
    it cannot be written.
    """
    place = Path(os.path.realpath(path))
    make_folder(place.parent)
    for left in place.parent.glob(f".{glob.escape(place.name)}-*.partial"):
        with suppress(OSError):
            if left.stat().st_mtime < time() - DAY:
                left.unlink()
    with writing(path):
        descriptor, partial = tempfile.mkstemp(".partial", f".{place.name}-", place.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o666 & ~_umask())             # mkstemp makes files only their owner can read
            os.replace(partial, place)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        flush(place.parent)


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path``; whoever reads it sees the old file or the new one, never
    a part.

    The folder is made if it is missing. Raises ``OSError``, with the path, if it cannot be written.
    """
    with written_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left of files and folders half written. For the holder of
    the folder's lock: nobody else may be writing there."""
    for left in [*folder.glob(".*.partial"), *folder.glob(".partial-*")]:
        with writing(left):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


# One writer at a time ---------------------------------------------------------------------------------------

@contextmanager
def locked(folder: str | Path, name: str = ".lock") -> Iterator[None]:
    """Hold a folder (made if it is missing) for this process alone, and clean up what a killed one left.

    The lock ends with the process, however that ends. ``name`` tells apart what may be written side by side.
    Raises ``OSError`` with one sentence that says who holds it.
    """
    new = not Path(folder).exists()
    folder = make_folder(folder)
    lock, owner = FileLock(folder / name, timeout=0), folder / f"{name}-owner"
    with writing(folder / name):
        try:
            lock.acquire()
            if not (folder / name).exists():                 # its holder ended, and removed it, just now
                raise Timeout(name)
        except Timeout:
            raise BlockingIOError(f"{folder} is being written by {_owner(owner)}; wait until that has ended, "
                                  f"end it, or write elsewhere") from None
    try:
        sweep(folder)
        with writing(owner):
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()} since "
                             f"{datetime.now():%Y-%m-%d %H:%M:%S} ({_program()})", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
            (folder / name).unlink()                         # on Windows the lock does this itself
        lock.release()
        with suppress(OSError):
            if new:
                folder.rmdir()                               # where nothing came about; else it is not empty


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"


def _program() -> str:
    """What this process runs, in a few words."""
    words = [Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python", *sys.argv[1:4]]
    return " ".join(words)[:60]
