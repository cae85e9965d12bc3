"""Make a version of the book: its number, the wheel, the website as a zip to read offline, and a tag.

    python tools/release.py set 0.2.0      write the number, give the changes their heading
    python tools/release.py pack           dist/: the wheel, and the built website as a zip
    python tools/release.py tag            commit and tag what ``set`` has changed

``make release VERSION=0.2.0`` does all three, and builds the website before it packs.
"""

import argparse
import datetime
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from notebooks import conform, notebooks

ROOT = Path(__file__).resolve().parent.parent
HTML = Path("_build") / "html"
PLACES = (                              # file, the line that holds the number
    ("mmlearn/__init__.py", r'^__version__ = "([^"]+)"$', '__version__ = "{}"'),
    ("CITATION.cff", r"^version: (\S+)$", "version: {}"),
)
UNRELEASED = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.M | re.S)


def git(root: Path, *command: str) -> str:
    """What git says."""
    return subprocess.run(["git", *command], cwd=root, check=True, capture_output=True,
                          encoding="utf-8").stdout.strip()


def current(root: Path = ROOT) -> str:
    """The version that the package has now. Raises ``ValueError`` if the files disagree."""
    found = {}
    for name, line, _ in PLACES:
        match = re.search(line, (root / name).read_text(encoding="utf-8"), re.M)
        if match is None:
            raise ValueError(f"{name} has no line with the version; restore it from git")
        found[name] = match[1]
    if len(set(found.values())) > 1:
        raise ValueError("the versions differ: " + ", ".join(f"{v} in {n}" for n, v in found.items())
                         + "; make them agree")
    return next(iter(found.values()))


def set_version(version: str, root: Path = ROOT, today: datetime.date | None = None) -> None:
    """Write ``version`` where it stands, also as the tag that the notebooks' setup cells fetch, and turn the
    unreleased changes into those of this version.

    Raises ``ValueError`` if it is no number above the present one, if there is nothing to release, or if
    there are changes that are not committed.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"{version!r} is no version; give three numbers, such as 0.2.0")
    before = current(root)
    if tuple(map(int, version.split("."))) <= tuple(map(int, before.split("."))):
        raise ValueError(f"{version} does not come after {before}, the present version; give a higher one")
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = UNRELEASED.search(changes)
    if unreleased is None or not unreleased[1].strip():
        raise ValueError("CHANGELOG.md lists nothing under '## Unreleased'; say there what has changed")
    if git(root, "status", "--porcelain", "--untracked-files=no"):
        raise ValueError("there are changes that are not committed; commit them first")
    for name, line, new in PLACES:
        text = (root / name).read_text(encoding="utf-8")
        (root / name).write_text(re.sub(line, new.format(version), text, count=1, flags=re.M),
                                 encoding="utf-8")
    for path in notebooks(root):
        conform(path, root)
    heading = f"## Unreleased\n\n## {version} ({today or datetime.date.today()})\n"
    (root / "CHANGELOG.md").write_text(changes.replace("## Unreleased\n", heading, 1), encoding="utf-8")


def pack(root: Path = ROOT) -> list[Path]:
    """The wheel and the website of the present version, in ``dist/``. Raises ``FileNotFoundError`` without a
    built site."""
    version, out = current(root), root / "dist"
    if not (root / HTML / "index.html").is_file():
        raise FileNotFoundError(f"there is no website in {HTML}; run `make book` first")
    out.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out),
                    str(root)], check=True)
    return [next(out.glob(f"mmlearn-{version}-*.whl")), zip_site(root, out / f"mmlearn-book-{version}.zip")]


def zip_site(root: Path, target: Path) -> Path:
    """The built website in one file, below a folder of its name; the same site gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in (root / HTML).rglob("*") if p.is_file() and p.name != ".built"):
            name = f"{target.stem}/{path.relative_to(root / HTML).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def tag(root: Path = ROOT) -> str:
    """Commit the files of the version and tag the commit; returns the tag."""
    version = current(root)
    git(root, "commit", "--quiet", "-m", f"Version {version}", "--", *(name for name, *_ in PLACES),
        "CHANGELOG.md", *(str(path.relative_to(root)) for path in notebooks(root)))
    git(root, "tag", "--annotate", f"v{version}", "-m", f"Version {version}")
    return f"v{version}"


def main() -> int:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("set").add_argument("version")
    steps.add_parser("pack")
    steps.add_parser("tag")
    args = parser.parse_args()
    try:
        if args.step == "set":
            set_version(args.version)
        elif args.step == "pack":
            print("\n".join(str(path.relative_to(ROOT)) for path in pack()))
        else:
            print(f"tagged {tag()}; publish it with: git push --follow-tags")
    except (ValueError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
