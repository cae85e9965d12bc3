"""Downloads that resume and are checked, and archives that are unpacked without leaving their folder.

Survey: 1.1 (where COCO comes from).  Addresses and checksums of COCO stand once, in ``COCO_FILES``.

A file arrives as ``NAME.part`` and gets its name when it is complete and its checksum right, so that a file
with its name is whole. A download that broke off goes on where it stopped if the server still has the same
file.
"""

import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

Progress = Callable[[int, int], None]       # bytes so far, bytes in all (0: unknown)
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file on a server, and what is known of it."""

    url: str
    size: int = 0           # bytes; 0: unknown
    md5: str = ""           # hexadecimal; "": unknown
    sha256: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(urllib.parse.urlparse(self.url).path).name


_COCO = "http://images.cocodataset.org"
COCO_FILES: dict[str, Remote] = {
    "train2017": Remote(f"{_COCO}/zips/train2017.zip", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
    "val2017": Remote(f"{_COCO}/zips/val2017.zip", 815585330, "442b8da7639aecaf257c1dceb8ba8c80",
                      "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"),
    "annotations2017": Remote(f"{_COCO}/annotations/annotations_trainval2017.zip", 252907541,
                              "f4bbac642086de4f52a3fdda2de5fa2c",
                              "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"),
    "train2014": Remote(f"{_COCO}/zips/train2014.zip", md5="0da8cfa0e090c266b78f30e2d2874f1a"),
    "val2014": Remote(f"{_COCO}/zips/val2014.zip", md5="a3d79f5ed8d289b7a7554ce06a5782b3"),
    "annotations2014": Remote(f"{_COCO}/annotations/annotations_trainval2014.zip",
                              md5="0a379cfc70b0e71301e0f377548639bd"),
    "karpathy": Remote("https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"),
}
# What a split needs: images and annotations. The Karpathy split cuts up the images of 2014.
COCO_SPLITS: dict[str, tuple[str, ...]] = {
    "val2017": ("val2017", "annotations2017"), "train2017": ("train2017", "annotations2017"),
    "val2014": ("val2014", "annotations2014"), "train2014": ("train2014", "annotations2014"),
    "karpathy": ("train2014", "val2014", "karpathy"),
}


class Offline(OSError):
    """The server cannot be reached."""


def download(remote: Remote, target: str | Path, progress: Progress | None = None, *, attempts: int = 5,
             timeout: float = 30.0) -> Path:
    """Fetch ``remote`` to the path ``target``, going on with a part that is there; returns ``target``.

    A target that exists and has the right size and checksum is kept. Raises ``Offline`` if the server cannot
    be reached, ``OSError`` if it refuses or the transfer breaks off ``attempts`` times in a row without
    progress, and ``ValueError`` for a wrong checksum (the bad file is removed).
    """
    target = Path(target)
    if urllib.parse.urlparse(remote.url).scheme not in ("http", "https"):
        raise ValueError(f"address {remote.url!r} is neither http nor https; nothing else is downloaded")
    if target.exists():
        _verify(target, remote, remove=False)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part, failures = target.with_name(target.name + ".part"), 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(remote, part, progress, timeout):
                break
            reason = "the connection closed early"
        except urllib.error.HTTPError as error:
            raise OSError(f"{remote.url} answers {error.code} {error.reason}; check the address") from None
        except urllib.error.URLError as error:
            raise Offline(f"cannot reach {urllib.parse.urlparse(remote.url).hostname} ({error.reason}); connect to the "
                          f"network and run the same command again, or put the file at {target}") from None
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(error) or type(error).__name__
        grown = part.exists() and part.stat().st_size > before
        failures = 0 if grown else failures + 1
        if failures >= attempts:
            raise OSError(f"{remote.url} broke off {attempts} times ({reason}); what has arrived is kept in {part}, run "
                          "the same command again to go on")
        time.sleep(min(8.0, 0.1 * 2 ** failures))
    _verify(part, remote, remove=True)
    os.replace(part, target)
    _etag_file(part).unlink(missing_ok=True)
    return target


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _transfer(remote: Remote, part: Path, progress: Progress | None, timeout: float) -> bool:
    """One connection; True when the file is complete. Appends only if the server still has the same file."""
    have = part.stat().st_size if part.exists() else 0
    known = _etag_file(part).read_text() if have and _etag_file(part).exists() else ""
    headers = {"User-Agent": "mmlearn", "Accept-Encoding": "identity"}
    if have and (known or remote.md5 or remote.sha256):         # without either, a mixture would go unnoticed
        headers["Range"] = f"bytes={have}-"
        if known:
            headers["If-Range"] = known
    try:
        response = urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers),
                                          timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and "Range" in headers:   # nothing after what we have: complete, or another file
            whole = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if whole.isdigit() and int(whole) == have:
                return True
            part.unlink()
            return False
        raise
    with response:
        begins = (response.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
        append = response.status == 206 and begins == str(have)
        length = int(response.headers.get("Content-Length") or 0)
        done = have if append else 0
        total = done + length if length else remote.size
        etag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if etag.startswith("W/"):
            etag = ""                                             # a weak tag cannot vouch for a range
        _etag_file(part).write_text(etag)
        with open(part, "ab" if append else "wb") as out:
            while block := response.read(_BLOCK):
                out.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    return not total or done >= total


def _digests(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def _verify(path: Path, remote: Remote, remove: bool) -> None:
    """Size and checksums as far as they are known."""
    problems = []
    if remote.size and path.stat().st_size != remote.size:
        problems.append(f"has {path.stat().st_size} bytes, expected {remote.size}")
    elif remote.md5 or remote.sha256:
        md5, sha256 = _digests(path)
        if remote.sha256 and sha256 != remote.sha256:
            problems.append(f"has sha256 {sha256}, expected {remote.sha256}")
        elif remote.md5 and md5 != remote.md5:
            problems.append(f"has md5 {md5}, expected {remote.md5}")
    if problems:
        name = path.name.removesuffix(".part")
        if remove:
            path.unlink()
            _etag_file(path).unlink(missing_ok=True)
            raise ValueError(f"{name} from {remote.url} {problems[0]}; it was removed, run the same command again")
        raise ValueError(f"{path} is there already but {problems[0]}; move it away and run the same command again")


# ---- archives --------------------------------------------------------------------------------------------------------

def _safe(name: str, archive: Path) -> PurePosixPath:
    """The relative path of a member, refused if it could leave the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise ValueError(f"{archive} holds the member {name!r}, which would be written outside the folder; nothing was "
                         "unpacked, get the archive from another source")
    return path


def _zip_members(file: zipfile.ZipFile, archive: Path) -> Iterator[tuple[PurePosixPath,
                                                                         Callable[[], IO[bytes]]]]:
    for info in file.infolist():
        path = _safe(info.filename, archive)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"{archive} holds the link {info.filename!r}; nothing was unpacked, links are refused")
        if not info.is_dir():
            yield path, partial(file.open, info)


def _tar_members(file: tarfile.TarFile, archive: Path) -> Iterator[tuple[PurePosixPath,
                                                                         Callable[[], IO[bytes]]]]:
    for info in file.getmembers():
        path = PurePosixPath(".") if info.name in (".", "./") else _safe(info.name, archive)
        if info.isdir():
            continue
        if not info.isreg():
            raise ValueError(f"{archive} holds {info.name!r}, which is a link or a device; nothing was unpacked, only "
                             "files and folders are")
        yield path, partial(_tar_open, file, info)


def _tar_open(file: tarfile.TarFile, info: tarfile.TarInfo) -> Any:      # a reader that is no typing.IO
    data = file.extractfile(info)
    if data is None:
        raise ValueError(f"{info.name!r} cannot be read from its archive; download it again")
    return data


def unpack(archive: str | Path, folder: str | Path, progress: Progress | None = None) -> Path:
    """Unpack a zip or tar archive into ``folder``; every member is checked before the first is written.

    Each file is written under a temporary name and renamed, over an older one of its name.
    Raises ``ValueError`` for members outside the folder, links, or another format.
    """
    archive, folder = Path(archive), Path(folder)
    if zipfile.is_zipfile(archive):
        opened: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(archive)
    elif tarfile.is_tarfile(archive):
        opened = tarfile.open(archive)
    else:
        raise ValueError(f"{archive} is neither a zip nor a tar archive; download it again")
    with opened as file:
        members = list(_zip_members(file, archive) if isinstance(file, zipfile.ZipFile)
                       else _tar_members(file, archive))
        for parent in {(folder / path).parent for path, _ in members}:
            if not parent.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{parent} leads outside {folder} by a link; remove the link and run it again")
            parent.mkdir(parents=True, exist_ok=True)
        for number, (path, source) in enumerate(members, 1):
            target = folder / path
            scratch = target.with_name(f".{target.name}.unpacking")
            with source() as data, open(scratch, "wb") as out:
                shutil.copyfileobj(data, out, _BLOCK)
            os.replace(scratch, target)
            if progress:
                progress(number, len(members))
    return folder


def download_coco(folder: str | Path, split: str = "val2017",
                  progress: Callable[[str, int, int], None] | None = None,
                  *, files: dict[str, Remote] | None = None, keep_archives: bool = False) -> Path:
    """Images and annotations of a COCO split in ``folder`` (``val2017/``, ``annotations/`` …); returns the
    folder.

    What is there already is not fetched again. ``progress(what, done, total)``. The Karpathy split puts
    ``dataset_coco.json`` beside ``train2014/`` and ``val2014/``.
    """
    if split not in COCO_SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(COCO_SPLITS)}")
    folder, files = Path(folder), files or COCO_FILES
    for key in COCO_SPLITS[split]:
        remote, marker = files[key], folder / f".{key}.done"
        if marker.exists():
            continue

        archive = download(remote, folder / remote.name, partial(progress, remote.name) if progress else None)
        unpack(archive, folder, partial(progress, f"unpacking {remote.name}") if progress else None)
        marker.write_text(remote.url + "\n")
        if not keep_archives:
            archive.unlink()
    return folder
