"""Where the package's data are, and files that are whole or absent: written under another name, flushed, then
renamed."""

import os
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parent


def package_data(*parts: str) -> Path:
    """A file or folder of what comes with the package: ``results``, ``checkpoints``, ``scenes-sample``.

    In an installed package it lies beside the modules, in a clone in the folder ``data`` of the repository.
    """
    installed = PACKAGE / "_data"
    return (installed if installed.is_dir() else PACKAGE.parent / "data").joinpath(*parts)


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
