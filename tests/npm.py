"""Node.js, and the npm packages of a folder of tests."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.conftest import require

OLDEST_NODE = (20, 19)
INSTALL_S = 300


def node_with_packages(package: Path) -> str:
    """Node, able to run what is in `package`, whose dependencies are installed where they are not yet."""
    node, npm = shutil.which("node"), shutil.which("npm")
    wanted = ".".join(map(str, OLDEST_NODE))
    if node is None or _version(node) < OLDEST_NODE:
        require("REQUIRE_NODE", f"Node.js {wanted} or newer is not on PATH")
    assert node is not None
    # Several test runs may start at once; the lock file is there before any of them and npm ci leaves it alone.
    with (package / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(package, npm, hashlib.sha256(lock.read()).hexdigest(), lock.fileno())
    return node


def _version(node: str) -> tuple[int, ...]:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return tuple(int(number) for number in version.strip().removeprefix("v").split("-")[0].split("."))


def _install(package: Path, npm: str | None, wanted: str, lock: int) -> None:
    """Run npm ci unless the stamp, which is written last, says that just this was installed in full.

    npm holds the lock too: it may outlive a test run that is killed.
    """
    stamp = package / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    if npm is None:
        require("REQUIRE_NODE", "npm is not on PATH")
    assert npm is not None
    try:
        subprocess.run(
            [npm, "ci"], cwd=package, pass_fds=[lock], capture_output=True, text=True, check=True, timeout=INSTALL_S
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        require("REQUIRE_NODE", f"{error} {error.stderr}")
    stamp.write_text(wanted)
