"""Shared by all tests: small scale, no network, the built site, a headless browser."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

os.environ.setdefault("MMLEARN_SCALE", "smoke")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def missing(what: str, remedy: str) -> None:
    """A tool that a test needs is not there: an error in continuous integration, a skip elsewhere."""
    message = f"{what} is missing: {remedy}"
    pytest.fail(message) if CI else pytest.skip(message)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built website."""
    html = ROOT / "_build" / "html"
    if not (html / "book" / "intro.html").exists():
        missing("the built website", "run `make book` first")
    return html


@pytest.fixture(scope="session")
def address(site):
    """The built website, served on a free port of this machine."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"               # connections are kept: a page asks for some thirty files

        def log_message(self, *args) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128                    # a browser opens many at once; 5 is the default

    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        missing("Chromium", "install it, for example with `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=[
            "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"])     # as without a network
        yield browser
        browser.close()
