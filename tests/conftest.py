"""Shared by all tests: small scale, no network, the built site, a headless browser."""

import inspect
import os
import sys
from pathlib import Path

import pytest
from cut_off import CHROMIUM, chromium_path, served
from systems import lacking

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

os.environ.setdefault("MMLEARN_SCALE", "smoke")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounding", type=int, metavar="SEED",
                     help="each step of an optimiser leaves weights off by some units in the last place")


def pytest_configure(config: pytest.Config) -> None:
    """With ``--rounding``, steps are as inexact as on another processor, which sums in another order: what is
    learned must be learned all the same. The noise is drawn apart from what tests draw."""
    if (seed := config.getoption("--rounding")) is None:
        return
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    draw = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def off(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
            if weight.grad is not None and weight.dtype == torch.float32 and weight.device.type == "cpu":
                weight.mul_(1 + 2 ** -22 * torch.randn(weight.shape, generator=draw))

    register_optimizer_step_post_hook(off)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this system cannot run, and say why."""
    for item in items if sys.platform != "linux" else ():
        function, module = getattr(item, "function", None), getattr(item, "module", None)
        sources = (inspect.getsource(function), inspect.getsource(module)) if function else ("", "")
        if reason := lacking(sys.platform, *sources):
            item.add_marker(pytest.mark.skip(reason=reason))


def missing(what: str, remedy: str) -> None:
    """A tool that a test needs is not there: an error in continuous integration, a skip elsewhere."""
    message = f"{what} is missing: {remedy}"
    pytest.fail(message) if CI else pytest.skip(message)


@pytest.fixture
def seeded() -> None:
    """What torch draws in a test is the same each time."""
    import torch

    torch.manual_seed(0)


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
    with served(site) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium."""
    path = chromium_path()
    if path is None:
        missing("Chromium", "install it, for example with `apt-get install chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright", "install the test extra: `pip install -e .[test]`")

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=CHROMIUM)
        yield browser
        browser.close()
