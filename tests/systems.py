"""What some tests need of their system: they are skipped, with the reason, where it is not there."""

POSIX, LINUX = ("linux", "darwin"), ("linux",)
# Words in a test (or in its module) that show a need; the need; the systems that meet it.
NEEDS = (
    ("module", "forkserver", "a process that forks others", POSIX),
    ("test", "SIGKILL", "signals that kill a process", POSIX),
    ("test", "symlink", "links that anyone may make", POSIX),
    ("test", "chmod(", "permissions of files", POSIX),
    ("test", "makefile", "make and a POSIX shell", POSIX),
    ("test", '"make"', "make and a POSIX shell", POSIX),
    ("test", '"bash"', "a POSIX shell", POSIX),
    ("test", "getrusage", "the peak of memory in kB", LINUX),
    ("test", "MEMORY", "the peak of memory in /proc", LINUX),
)


def lacking(system: str, test: str, module: str) -> str | None:
    """What a system (``sys.platform``) lacks that the source of a test, or of its module, shows a need of."""
    for where, word, need, systems in NEEDS:
        if word in (test if where == "test" else module) and not system.startswith(systems):
            return f"needs {need}"
    return None
