"""Where the package's data are, and files that are whole or absent: written under another name, flushed, then
renamed."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent


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
    try:
        content = json.loads(read_text(path, remedy))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {remedy}") from None
    except ValueError as error:            # not UTF-8, which names the file, or a number of 5,000 digits
        named = str(path) in str(error)
        raise ValueError(str(error) if named else f"{path} is not valid JSON ({error}); {remedy}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deep to be read; {remedy}") from None
    if not isinstance(content, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(_JSON_NAMES[k] for k in kinds)
        found = _JSON_NAMES.get(type(content), "null")
        raise ValueError(f"{path} holds {found}, where {wanted} is expected; {remedy}")
    return content


_JSON_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a string", int: "a number",
                                float: "a number", bool: "true or false"}


def flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path``; whoever reads it sees the old file or the new one, never
    a part.

    The folder is made if it is missing. Raises ``OSError`` if it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())             # mkstemp makes files only their owner can read
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    flush(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
