"""Downloads arrive whole or not at all, go on after a break, and archives cannot write outside their
folder."""

import functools
import hashlib
import io
import os
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmlearn.data.download import (
    COCO_FILES,
    COCO_SPLITS,
    Broken,
    Offline,
    Remote,
    download,
    download_coco,
    unpack,
)

CONTENT = bytes((i * i) % 251 for i in range(300_000))


class Server(BaseHTTPRequestHandler):
    """Serves ``files`` with ranges; closes the connection early after the number of bytes in ``breaks``."""

    files: dict[str, bytes]
    breaks: list[int]
    asked: list[tuple[str, str]]
    moved: dict[str, str]
    etag = '"one"'
    ranges = True
    lengths = True
    status = 200

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.asked.append((self.path, self.headers.get("Range", "")))
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if body is None:
            return self.send_error(404)
        wanted, start = self.headers.get("Range"), 0
        if wanted and self.ranges and self.headers.get("If-Range", self.etag) == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(self.status)
        if self.lengths:
            self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", self.etag)
        self.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else len(body)
        self.wfile.write(body[start:end])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"files": {"/data.bin": CONTENT}, "breaks": [], "asked": [],
                                          "moved": {}})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{httpd.server_port}"
    yield handler
    httpd.shutdown()
    httpd.server_close()


def remote(server, **known) -> Remote:
    return Remote(f"{server.url}/data.bin", **known)


def sums(content: bytes = CONTENT) -> dict[str, str]:
    return {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}


# ---- downloads ---------------------------------------------------------------------------------------------

def test_a_file_arrives_whole_and_alone(server, tmp_path):
    seen: list[tuple[int, int]] = []
    path = download(remote(server, size=len(CONTENT), **sums()), tmp_path / "new" / "data.bin",
                    lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.breaks[:] = [100_000, 50_000]
    download(remote(server, **sums()), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["", "bytes=100000-", "bytes=150000-"]


def test_a_second_run_goes_on_where_the_first_was_stopped(server, tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    server.breaks[:] = [120_000]
    with pytest.raises(Stop):
        download(remote(server), tmp_path / "data.bin", stop)
    assert not (tmp_path / "data.bin").exists()
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:120_000]
    download(remote(server), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.asked[1][1] == "bytes=120000-"


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old_one(server, tmp_path):
    server.breaks[:] = [120_000]
    with pytest.raises(OSError, match="broke off 1 times"):
        server.files["/data.bin"] = CONTENT
        server.breaks[:] = [0]
        download(remote(server), tmp_path / "data.bin", attempts=1)
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    (tmp_path / "data.bin.part.etag").write_text('"one"')
    server.files["/data.bin"], server.etag = CONTENT[::-1], '"two"'
    download(remote(server), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]


def test_a_server_that_knows_no_ranges_is_asked_from_the_start(server, tmp_path):
    server.ranges, server.breaks[:] = False, [100_000]
    download(remote(server, **sums()), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_only_checked(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    download(remote(server, **sums()), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"size": 7}])
def test_a_wrong_file_is_removed_and_its_sum_is_told(server, tmp_path, known):
    with pytest.raises(ValueError, match=r"data.bin from http.* has (md5|sha256|300000).*expected.*removed"):
        download(remote(server, **known), tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept_if_right_and_never_overwritten_if_wrong(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    download(remote(server, **sums()), tmp_path / "data.bin")
    assert server.asked == []
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is there already but has sha256"):
        download(remote(server, **sums()), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == b"mine"


def test_a_transfer_that_never_gets_on_gives_up_with_a_sentence(server, tmp_path):
    server.breaks[:] = [1000, 0, 0]
    with pytest.raises(OSError, match=r"broke off 2 times.*data.bin.part.*run the same command again"):
        download(remote(server), tmp_path / "data.bin", attempts=2)
    assert (tmp_path / "data.bin.part").stat().st_size == 1000


def test_no_network_and_no_such_file_are_told_apart(server, tmp_path):
    with pytest.raises(Offline, match=r"cannot reach 127.0.0.1.*connect to the network"):
        download(Remote("http://127.0.0.1:9/data.bin"), tmp_path / "data.bin")
    with pytest.raises(OSError, match="answers 404"):
        download(Remote(f"{server.url}/other.bin"), tmp_path / "other.bin")
    with pytest.raises(ValueError, match="neither http nor https"):
        download(Remote("file:///etc/passwd"), tmp_path / "passwd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place, message", [
    ("http://example.org/data.bin", "sends us on to http://example.org/data.bin, which is not https; "
                                    "nothing was"),
    ("ftp://127.0.0.1/data.bin", "not https; nothing was downloaded"), ("http://[::", "sends us on to no "
                                                                                      "address")])
def test_a_server_that_sends_us_on_without_https_is_not_followed(server, tmp_path, place, message):
    server.moved["/old.bin"] = place
    with pytest.raises(OSError, match=message):
        download(Remote(f"{server.url}/old.bin"), tmp_path / "old.bin")
    assert [path for path, _ in server.asked] == ["/old.bin"] and list(tmp_path.iterdir()) == []


def test_a_server_on_this_machine_may_send_us_on_to_itself(server, tmp_path):
    server.moved["/old.bin"] = f"{server.url}/data.bin"
    assert download(Remote(f"{server.url}/old.bin"), tmp_path / "old.bin").read_bytes() == CONTENT


def test_a_body_without_a_length_could_be_cut_short_unseen(server, tmp_path):
    server.lengths = False
    with pytest.raises(OSError, match="does not say how long the file is.*could be cut short unseen"):
        download(remote(server), tmp_path / "data.bin")
    server.breaks[:] = [1000]                             # a known size tells that the rest is missing
    download(remote(server, size=len(CONTENT)), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_that_was_not_asked_for_is_no_file(server, tmp_path):
    server.status = 206
    with pytest.raises(OSError, match="answers 206, which is no whole file"):
        download(remote(server), tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_through_a_link_in_the_place_of_a_part(server, tmp_path):
    (tmp_path / "mine").write_text("mine")
    os.symlink(tmp_path / "mine", tmp_path / "data.bin.part")
    download(remote(server), tmp_path / "data.bin")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "data.bin").read_bytes() == CONTENT


# ---- archives ----------------------------------------------------------------------------------------------

def zip_of(members: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if name in links:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, content)
    return out.getvalue()


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_archive_becomes_its_files(tmp_path):
    members = {"val2017/1.jpg": b"one", "annotations/captions.json": b"{}"}
    (tmp_path / "archive").write_bytes(zip_of(members))
    unpack(tmp_path / "archive", tmp_path / "out")
    assert files_in(tmp_path / "out") == members


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt",
                                  "C:\\evil.txt"])
def test_a_member_that_leaves_the_folder_stops_everything(tmp_path, name):
    (tmp_path / "archive").write_bytes(zip_of({"good.txt": b"good", name: b"evil"}))
    with pytest.raises(ValueError, match="outside the folder; nothing was unpacked"):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert sorted(files_in(tmp_path)) == ["archive"]


def test_links_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of({"link": b"/etc/passwd"}, links=("link",)))
    with pytest.raises(ValueError, match="holds the link 'link'"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_that_is_there_already_does_not_lead_out(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "out" / "val2017")
    (tmp_path / "a.zip").write_bytes(zip_of({"val2017/1.jpg": b"one"}))
    with pytest.raises(ValueError, match="leads outside"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_to_a_folder_of_ones_own_is_not_written_through_either(tmp_path):
    (tmp_path / "out" / "mine").mkdir(parents=True)
    os.symlink(tmp_path / "out" / "mine", tmp_path / "out" / "val2017")
    (tmp_path / "a.zip").write_bytes(zip_of({"val2017/1.jpg": b"one"}))
    with pytest.raises(ValueError, match="is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "out" / "mine").iterdir()) == []


def test_an_archive_that_unpacks_to_far_more_than_it_is_stays_packed(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(60 << 20))
    (tmp_path / "a.zip").write_bytes(out.getvalue())
    with pytest.raises(ValueError, match=r"a\.zip has .* bytes and would unpack to 62,914,560; nothing was"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change, message", [
    (lambda content: content[:-30], "is no zip archive"),
    (lambda content: content.replace(b"one", b"two"), "is damaged .*CRC"),
    (lambda content: content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
     "is encrypted")])
def test_a_damaged_or_locked_archive_is_named(tmp_path, change, message):
    (tmp_path / "a.zip").write_bytes(change(zip_of({"1.jpg": b"one"})))
    with pytest.raises(Broken, match=rf"a\.zip {message}"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of({"x": b"file", "x/y": b"inside"}))
    with pytest.raises(ValueError, match="twice, or as a file and as a folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_something_else_is_no_archive(tmp_path):
    (tmp_path / "page.html").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="is no zip archive"):
        unpack(tmp_path / "page.html", tmp_path / "out")


# ---- COCO --------------------------------------------------------------------------------------------------

def test_a_split_of_coco_is_fetched_unpacked_and_not_fetched_again(server, tmp_path):
    packs = {"val2017": zip_of({"val2017/000000000139.jpg": b"jpg"}),
             "annotations2017": zip_of({"annotations/captions_val2017.json": b"{}"})}
    files = {}
    for key, content in packs.items():
        server.files[f"/{key}.zip"] = content
        files[key] = Remote(f"{server.url}/{key}.zip", len(content), **sums(content))
    said: list[str] = []
    get = functools.partial(download_coco, tmp_path / "coco", "val2017", lambda what, done,
                            total: said.append(what), files=files)
    get()
    names = {n for n in files_in(tmp_path / "coco") if not n.startswith(".")}
    assert names == {"val2017/000000000139.jpg", "annotations/captions_val2017.json"}
    assert {"val2017.zip", "unpacking val2017.zip"} <= set(said)
    before = len(server.asked)
    get()
    assert len(server.asked) == before == 2


def test_a_damaged_archive_is_removed_and_fetched_again(server, tmp_path):
    content = zip_of({"val2017/1.jpg": b"one"})
    server.files["/val2017.zip"] = content
    server.files["/annotations2017.zip"] = zip_of({"annotations/a": b"{}"})
    files = {key: Remote(f"{server.url}/{key}.zip") for key in ("val2017", "annotations2017")}
    files["val2017"] = Remote(files["val2017"].url, len(content))
    for left in (b"<html>not found</html>", content[:-30].ljust(len(content), b"x")):
        folder = tmp_path / str(len(left))
        folder.mkdir()
        (folder / "val2017.zip").write_bytes(left)
        download_coco(folder, "val2017", files=files)
        assert files_in(folder)["val2017/1.jpg"] == b"one"
    server.files["/val2017.zip"] = b"x" * len(content)
    with pytest.raises(ValueError, match="no zip archive.*it was removed, run the same command again"):
        download_coco(tmp_path / "new", "val2017", files=files)
    assert not (tmp_path / "new" / "val2017.zip").exists()


def test_every_split_of_coco_has_addresses_of_its_makers():
    assert set(COCO_SPLITS["val2017"]) == {"val2017", "annotations2017"}
    assert COCO_FILES["val2017"].url == "http://images.cocodataset.org/zips/val2017.zip"
    for key, file in COCO_FILES.items():
        assert file.url.startswith(("http://images.cocodataset.org/",
                                    "https://cs.stanford.edu/people/karpathy/"))
        assert len(file.md5) in (0, 32) and len(file.sha256) in (0, 64)
        assert file.md5 or key == "karpathy"
    assert all(key in COCO_FILES for keys in COCO_SPLITS.values() for key in keys)
    with pytest.raises(ValueError, match="'val2018' is unknown"):
        download_coco("anywhere", "val2018")
