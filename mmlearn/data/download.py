"""Downloads that resume and are checked, and archives that are unpacked without leaving their folder.

Survey: 1.1 (where COCO comes from).  Addresses and checksums of COCO stand once, in ``COCO_FILES``.

``pooch`` fetches under another name, compares checksums and renames, so that a file with its name is whole.
What it lacks is here: a transfer that broke off goes on from ``NAME.part`` if the server still has the same
file (COCO's largest has 19 GB), and a redirection leads to https or nowhere.
"""

import ipaddress
import lzma
import os
import stat
import struct
import tempfile
import time
import urllib.parse
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests
import urllib3

from mmlearn.files import write_atomically

Progress = Callable[[int, int], None]       # bytes so far, bytes in all (0: unknown)
_BLOCK = 1 << 20
RATIO, SPARE = 50, 16 << 20                 # an archive may unpack to RATIO times its size and SPARE bytes


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

    @property
    def known_hash(self) -> str | None:
        """The checksum as ``pooch`` writes it."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}" if self.md5 else None


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
             timeout: float = 30.0, replace: bool = False) -> Path:
    """Fetch ``remote`` to the path ``target``, going on with a part that is there; returns ``target``.

    A target that exists and has the right size and checksum is kept; a wrong one is an error, or with
    ``replace`` is removed and fetched again. Raises ``Offline`` if the server cannot
    be reached, ``OSError`` if it refuses or the transfer breaks off ``attempts`` times in a row without
    progress, and ``ValueError`` for a wrong checksum (the bad file is removed) or an address that is neither
    http nor https.
    """
    target = Path(target)
    if urllib.parse.urlparse(remote.url).scheme not in ("http", "https"):
        raise ValueError(f"address {remote.url!r} is neither http nor https; nothing else is downloaded")
    if replace and target.is_file() and _problem(target, remote):
        target.unlink()
    if target.exists():
        if problem := _problem(target, remote):
            raise ValueError(f"{target} is there already but {problem}; move it away and run the same "
                             f"command again")
        return target
    part = target.with_name(target.name + ".part")
    for left in (part, _etag_file(part)):                         # nothing is written through a link
        if left.is_symlink():
            left.unlink()
    fetch = partial(_fetch, remote, part, progress, attempts, timeout)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")                                      # what it reports, we report by ``progress``
    try:
        pooch.retrieve(remote.url, None, fname=target.name, path=target.parent, downloader=fetch)
    finally:
        logger.setLevel(level)
    return target


def _problem(path: Path, remote: Remote) -> str:
    """What is wrong with the size or checksum of a file, as far as they are known; "" if nothing is."""
    if remote.size and path.stat().st_size != remote.size:
        return f"has {path.stat().st_size} bytes, expected {remote.size}"
    for algorithm, expected in (("sha256", remote.sha256), ("md5", remote.md5)):
        if expected and (actual := pooch.file_hash(str(path), algorithm)) != expected:
            return f"has {algorithm} {actual}, expected {expected}"
    return ""


def _fetch(remote: Remote, part: Path, progress: Progress | None, attempts: int, timeout: float, url: str,
           output: Any, _: Any) -> None:
    """A downloader for ``pooch``: fetch ``url`` by way of ``part``, which a later run goes on with."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(remote, part, progress, timeout):
                break
            reason = "the connection closed early"
        except requests.exceptions.HTTPError as error:
            reason = str(error).partition(" for url")[0]
            raise OSError(f"{url} answers {reason}; check the address") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema,
                requests.exceptions.InvalidSchema, requests.exceptions.InvalidHeader) as error:
            raise OSError(f"{url} cannot be fetched ({error}); check the address") from None
        except (urllib3.exceptions.HTTPError, requests.exceptions.ReadTimeout) as error:
            reason = str(error) or type(error).__name__
        except requests.exceptions.ConnectionError as error:
            if not (part.exists() and part.stat().st_size > before):
                host = urllib.parse.urlparse(url).hostname
                raise Offline(f"cannot reach {host} ({error}); connect to the network and run the same "
                              f"command again, "
                              f"or put the file at {part.with_suffix('')}") from None
            reason = str(error)
        grown = part.exists() and part.stat().st_size > before
        failures = 0 if grown else failures + 1
        if failures >= attempts:
            raise OSError(f"{url} broke off {attempts} times ({reason}); what has arrived is kept in {part}, "
                          f"run the "
                          "same command again to go on")
        time.sleep(min(8.0, 0.1 * 2 ** failures))
    _etag_file(part).unlink(missing_ok=True)
    if problem := _problem(part, remote):
        part.unlink()
        raise ValueError(f"{remote.name} from {url} {problem}; it was removed, run the same command again")
    os.replace(part, output)


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _ask(url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    """The answer of a server, after redirections to https alone (a server on this machine may stay on it)."""
    for _ in range(5):
        try:
            answer = requests.get(url, headers=headers, stream=True, timeout=timeout, allow_redirects=False)
        except ValueError as error:                        # requests looks at where it would be sent on to
            if isinstance(error, requests.exceptions.RequestException):
                raise
            raise OSError(f"the server of {url} sends us on to no address ({error}); nothing was "
                          f"downloaded") from None
        if not answer.is_redirect:
            return answer
        before = url
        answer.close()
        try:
            url = urllib.parse.urljoin(url, answer.headers["Location"])
            here = _is_loopback(before) and _is_loopback(url) and url.startswith("http://")
        except ValueError:
            raise OSError(f"the server of {before} sends us on to no address; nothing was "
                          "downloaded") from None
        if not (url.startswith("https://") or here):
            raise OSError(f"the server sends us on to {url}, which is not https; nothing was downloaded")
    raise OSError(f"the server sends us on again and again, last to {url}; nothing was downloaded")


def _is_loopback(url: str) -> bool:
    """Is this the address of a server on this machine?"""
    host = urllib.parse.urlparse(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:                                             # a name
        return False


def _number(text: str | None) -> int:
    """A number of bytes in a header; 0 where there is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def _transfer(remote: Remote, part: Path, progress: Progress | None, timeout: float) -> bool:
    """One connection; True when the file is complete. Appends only if the server still has the same file."""
    have = part.stat().st_size if part.exists() else 0
    stated = _etag_file(part)
    known = stated.read_text(encoding="utf-8", errors="replace") if have and stated.exists() else ""
    known = known if known.isascii() and known.isprintable() else ""
    headers = {"User-Agent": "mmlearn", "Accept-Encoding": "identity"}
    if have and (known or remote.known_hash):                   # without either, a mixture would go unnoticed
        headers["Range"] = f"bytes={have}-"
        if known:
            headers["If-Range"] = known
    with _ask(remote.url, headers, timeout) as answer:
        span = answer.headers.get("Content-Range") or ""
        # nothing after what we have: complete, or another
        if answer.status_code == 416 and "Range" in headers:
            if span.rpartition("/")[2] == str(have):
                return True
            part.unlink()
            return False
        answer.raise_for_status()
        if answer.status_code not in (200, 206) or (answer.status_code == 206 and "Range" not in headers):
            raise OSError(f"{remote.url} answers {answer.status_code}, which is no whole file; check the "
                          f"address")
        append = answer.status_code == 206 and span.removeprefix("bytes ").partition("-")[0] == str(have)
        if answer.status_code == 206 and not append:       # another part than the one we lack
            part.unlink()
            return False
        length = _number(answer.headers.get("Content-Length"))
        if (packed := answer.headers.get("Content-Encoding", "identity")) != "identity":
            raise OSError(f"{remote.url} answers packed ({packed}), though the file itself was asked for; "
                          "get it "
                          f"from another server")
        whole = length or "chunked" in answer.headers.get("Transfer-Encoding", "")
        if not (whole or remote.size or remote.known_hash):
            raise OSError(f"{remote.url} does not say how long the file is, and nothing is known of it: it "
                          "could "
                          f"be cut short unseen; get it by other means and put it at {part.with_suffix('')}")
        done = have if append else 0
        total = done + length if length else remote.size
        etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        # a weak one cannot vouch for a range
        _etag_file(part).write_text("" if etag.startswith("W/") else etag, encoding="utf-8")
        with open(part, "ab" if append else "wb") as out:
            answer.raw.enforce_content_length = False       # else the last block of a broken transfer is lost
            while block := answer.raw.read(_BLOCK):
                out.write(block)
                done += len(block)
                if remote.size and done > remote.size:
                    break                               # another file; comparing the sizes says so
                if progress:
                    progress(done, total)
    return not total or done >= total


def unpack(archive: str | Path, folder: str | Path, progress: Progress | None = None) -> Path:
    """Unpack a zip archive into ``folder``; every member is checked before the first is written.

    Each file is written under another name and renamed, over an older one of its name. Raises ``Broken``, a
    ``ValueError``, for an archive that is damaged, encrypted or of another format, ``ValueError`` for members
    outside the folder, links (in the archive or in the way), and what unpacks to far more than it is.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise FileNotFoundError(f"no archive at {archive}; download it again")
    try:
        if not zipfile.is_zipfile(archive):
            raise Broken(f"{archive} is no zip archive; download it again")
        with zipfile.ZipFile(archive) as file:
            members = _checked(file, archive, folder)
            for parent in {(folder / path).parent for path, _ in members}:
                parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as scratch:
                for number, (path, info) in enumerate(members, 1):
                    os.replace(file.extract(info, scratch), folder / path)
                    if progress:
                        progress(number, len(members))
    except (Broken, Refused):
        raise
    except _ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise                                                  # of the folder, not of the archive
        raise Broken(f"{archive} is damaged ({str(error)[:200] or type(error).__name__}); download it "
                     f"again") from None
    return folder


# what zipfile meets in a damaged archive; ValueError comes from numbers and names that cannot be
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
               struct.error, ValueError, OverflowError, IndexError, OSError)


class Broken(ValueError):
    """An archive is not what was sent; fetching it again may help."""


class Refused(ValueError):
    """An archive would write where it must not, or too much."""


def _checked(
    file: zipfile.ZipFile, archive: Path, folder: Path
) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """The members to unpack, none of which can leave the folder, hide another or grow beyond measure."""
    members = [(_safe(info, archive), info) for info in file.infolist() if not info.is_dir()]
    if any(info.flag_bits & 1 for _, info in members):
        raise Broken(f"{archive} is encrypted, which no archive of data is; download it again")
    size, whole = archive.stat().st_size, sum(info.file_size for _, info in members)
    if whole > RATIO * size + SPARE:
        raise Refused(f"{archive} has {size:,} bytes and would unpack to {whole:,}; nothing was "
                         "unpacked, get "
                         f"the archive from another source")
    paths = Counter(path for path, _ in members)
    double = next((path for path, n in paths.items() if n > 1 or any(p in paths for p in path.parents)), None)
    if double is not None:
        raise Broken(f"{archive} holds {str(double)!r} twice, or as a file and as a folder; download it "
                     "again")
    for place in {folder / part for path in paths for part in path.parents if part.parts}:
        if place.is_symlink():
            raise Refused(f"{place} is a link that leads outside {folder}, or elsewhere in it; remove "
                             "the link "
                             f"and run it again")
        if place.exists() and not place.is_dir():
            raise Refused(f"{place} is a file where {archive.name} has a folder; move it away and run "
                             "it again")
    if blocked := next((path for path in paths
                        if (folder / path).is_dir() and not (folder / path).is_symlink()), None):
        raise Refused(f"{folder / blocked} is a folder where {archive.name} has a file; move it away "
                         "and run "
                         f"it again")
    return members


def _safe(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """The relative path of a member, refused if it could leave the folder."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or ":" in path.parts[0]
        or "\0" in info.filename
    ):
        raise Refused(f"{archive} holds the member {info.filename!r}, which would be written outside the "
                         f"folder; "
                         "nothing was unpacked, get the archive from another source")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Refused(f"{archive} holds the link {info.filename!r}; nothing was unpacked, links are "
                         f"refused")
    return path


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

        fetch = partial(download, remote, folder / remote.name,
                        partial(progress, remote.name) if progress else None, replace=True)
        said = partial(progress, f"unpacking {remote.name}") if progress else None
        was_there = (folder / remote.name).exists()
        archive = fetch()
        try:
            unpack(archive, folder, said)
        except Broken as error:                            # kept, it would fail for ever
            archive.unlink()
            if not was_there:
                raise ValueError(f"{error}: it was removed, run the same command again") from None
            unpack(archive := fetch(), folder, said)
        write_atomically(marker, remote.url + "\n")
        if not keep_archives:
            archive.unlink()
    return folder
