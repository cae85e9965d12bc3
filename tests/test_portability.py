"""The package needs no particular system: no module, function or path of POSIX alone, no encoding unsaid."""

import ast
import subprocess
from pathlib import Path

import pytest
from systems import NEEDS, lacking

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "mmlearn").rglob("*.py"), *(ROOT / "tools").glob("*.py")])
MODULES = {"fcntl", "grp", "msvcrt", "pwd", "pty", "resource", "syslog", "termios", "winreg"}
POSIX = {"os": {"O_DIRECTORY", "O_NOFOLLOW", "fchmod", "fork", "forkpty", "geteuid", "getpgid", "getuid",
                "killpg", "mkfifo", "nice", "sched_getaffinity", "setpgid", "setsid", "statvfs", "sync",
                "sysconf", "uname", "wait", "waitpid"},
         "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "alarm",
                    "setitimer"}}
ASKS = ("hasattr(", "os.name", "sys.platform", "platform.system")


def faults(text: str) -> list[str]:
    """What of a module would fail on some system, each with its line."""
    tree, found = ast.parse(text), []
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]

    def asked(node: ast.AST) -> bool:
        """Whether the function around it asks which system this is."""
        around = [f for f in functions if f.lineno <= node.lineno <= f.end_lineno]
        return any(word in ast.get_source_segment(text, f) for f in around for word in ASKS)

    for node in ast.walk(tree):
        names = ({a.name.split(".")[0] for a in node.names} if isinstance(node, ast.Import)
                 else {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set())
        if names & MODULES and not asked(node):
            found.append(f"line {node.lineno}: {names & MODULES} is imported on every system")
        if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                and node.attr in POSIX.get(node.value.id, ()) and not asked(node)):
            found.append(f"line {node.lineno}: {node.value.id}.{node.attr} is not there on every system")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(
                ("/tmp/", "/dev/", "/proc/", "/var/")):
            found.append(f"line {node.lineno}: {node.value} is no path of every system")
        if isinstance(node, ast.Call) and not encoded(node):
            found.append(f"line {node.lineno}: text without encoding=")
    return found


def encoded(call: ast.Call) -> bool:
    """Whether a call reads and writes no text, or says its encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    of = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in said or None in said:
        return True
    if of == "subprocess":
        return not {"text", "universal_newlines"} & set(said)
    if name in ("read_text", "write_text"):
        return not of or len(call.args) > (name == "write_text")         # a function of ours has no owner
    mode = said.get("mode", call.args[1] if len(call.args) > 1 else None)
    if (name == "open" and of in ("", "io")) or (name == "fdopen" and of == "os"):
        return isinstance(mode, ast.Constant) and "b" in mode.value or isinstance(mode, ast.IfExp)
    return True


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_module_needs_no_particular_system(path):
    assert not faults(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", [
    "import fcntl", "from resource import getrusage", "import os\nos.fork()", "import os\nos.killpg(1, 9)",
    "import signal\nsignal.SIGKILL", "open('/dev/null', 'rb')", "open('a')", "open('a', 'w')",
    "open('a', mode='w')",
    "import os\nos.fdopen(3, 'w')", "from pathlib import Path\nPath('a').read_text()", "path.write_text('x')",
    "import subprocess\nsubprocess.run(['ls'], text=True)",
])
def test_the_search_finds(line):
    assert faults(line)


@pytest.mark.parametrize("line", [
    "import os\ndef f():\n    return os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else 1",
    "open('a', 'rb')", "open('a', 'wb')", "open('a', encoding='utf-8')", "path.read_text('utf-8')",
    "Image.open('a')",
    "path.write_text('x', encoding='utf-8')", "read_text(path)", "import subprocess\nsubprocess.run(['ls'])",
    "import sys\ndef f():\n    if sys.platform != 'win32':\n        import fcntl",
])
def test_the_search_passes(line):
    assert not faults(line)


def test_a_test_is_skipped_where_its_system_lacks_what_it_needs():
    assert lacking("win32", "os.kill(process.pid, signal.SIGKILL)", "") == "needs signals that kill a process"
    assert lacking("win32", "assert 1", "context = get_context('forkserver')") is not None
    assert lacking("darwin", "peak = getrusage(0)", "") and not lacking("darwin", "signal.SIGKILL", "")
    assert not lacking("linux", " ".join(word for _, word, _, _ in NEEDS), "forkserver")
    assert not lacking("win32", "assert 1", "import os")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_a_clone_can_be_made_on_every_system():
    """No name that Windows forbids, none that differ only in case, no links."""
    listed = subprocess.run(["git", "ls-files", "-s", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    entries = [line.split("\t") for line in listed.decode().split("\0") if line]
    assert not [name for mode, name in entries if mode.startswith("120000")]
    names = [name for _, name in entries]
    assert not [name for name in names if set(name) & set('<>:"|?*\\') or name.endswith((".", " "))]
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) < 120
