"""One function under Vercel's own runtime: the `vercel-runtime` package, started as the platform starts it.

The runtime speaks to the platform over a Unix socket, one JSON message after another; here we are the platform.
"""

from __future__ import annotations

import base64
import fcntl
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".local"
REQUEST_ID = "x-vercel-internal-request-id"
"""The header by which the platform numbers requests; messages about a request carry its number."""
START_TIMEOUT_S = 60.0
TIMEOUT_S = 30.0
GRACE_S = 2.0


class RuntimeMissing(Exception):
    """There is nothing to run the runtime with; says what would have to be installed."""


class RuntimeFailed(Exception):
    """The runtime did not do what was waited for; holds what it printed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the runtime; types are `server-started`, `handler-started`, `log`, `end` and a few more."""

    type: str
    payload: Mapping[str, Any]

    @property
    def request(self) -> int | None:
        """The number of the request that it is about, 0 for a log outside of requests."""
        return self.payload.get("context", {}).get("requestId")

    @property
    def text(self) -> str:
        """What a log says; empty for any other message."""
        return base64.b64decode(self.payload["message"]).decode() if self.type == "log" else ""


class Runtime:
    """A function under the runtime: entering waits until it serves, leaving stops the process whatever it does."""

    def __init__(self, command: Sequence[str | Path], folder: Path, environ: Mapping[str, str]) -> None:
        """`command` starts the runtime in `folder`; beside `environ` the process knows PATH, HOME and PYTHONPATH."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.url = ""
        self._command = command
        self._folder = folder
        self._environ = {**inherited, "PYTHONPATH": str(folder), **environ}
        self._messages: list[Message] = []
        self._news = threading.Condition()
        self._silent = False
        self._stack = ExitStack()

    @classmethod
    def of_file(cls, file: str, environ: Mapping[str, str], python: Path | None = None) -> Runtime:
        """An api file of this tree, such as `api/generate.py`. Raises RuntimeMissing where no `python` is given."""
        handler = {
            "ENTRYPOINT": file,
            "ENTRYPOINT_ABS": str(ROOT / file),
            "MODULE_NAME": file.removesuffix(".py").replace("/", "."),
            "VARIABLE_NAME": "app",
        }
        given = {f"__VC_HANDLER_{name}": value for name, value in handler.items()}
        return cls([python or interpreter(), "-m", "vercel_runtime.vc_init"], ROOT, {**given, **environ})

    @classmethod
    def of_bundle(cls, folder: Path, environ: Mapping[str, str], python: Path) -> Runtime:
        """What `vercel build` made of a function, laid out in `folder`; `environ` holds the build's own variables."""
        # Without site packages: what the bundle lacks must not come from this machine.
        return cls([python, "-S", "vc__handler__python.py"], folder, environ)

    @property
    def pid(self) -> int:
        """The runtime's process."""
        return self._process.pid

    @property
    def messages(self) -> list[Message]:
        """Everything the runtime has said so far, in order."""
        with self._news:
            return list(self._messages)

    def wait_for(self, wanted: Callable[[Message], bool], timeout_s: float = TIMEOUT_S) -> Message:
        """The first message that is `wanted`, once it is there. Raises RuntimeFailed when it does not come."""

        def found() -> Message | None:
            return next(filter(wanted, self._messages), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._silent, timeout_s)
            message = found()
        if message is None:
            raise RuntimeFailed(self._report("did not say what was waited for"))
        return message

    @contextmanager
    def frozen(self) -> Generator[None]:
        """The process stopped where it is, as the platform freezes an instance between invocations."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._output = stack.enter_context(tempfile.TemporaryFile())
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runtime-"))) / "ipc"
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()
            self._process = self._spawn(path)
            reader = threading.Thread(target=self._listen, args=[listener])
            stack.callback(reader.join)
            stack.callback(self._stop)
            reader.start()
            started = self.wait_for(lambda message: message.type == "server-started", START_TIMEOUT_S)
            self.url = f"http://127.0.0.1:{started.payload['httpPort']}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _spawn(self, path: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            cwd=self._folder,
            env={**self._environ, "VERCEL_IPC_PATH": str(path)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _listen(self, listener: socket.socket) -> None:
        """Take in messages until the process has ended: it may do so before it connects."""
        listener.settimeout(0.1)
        ended = False
        while not ended:
            ended = self._process.poll() is not None
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                self._read(connection)
            break
        with self._news:
            self._silent = True
            self._news.notify_all()

    def _read(self, connection: socket.socket) -> None:
        pending = b""
        while received := connection.recv(65536):
            *whole, pending = (pending + received).split(b"\0")
            with self._news:
                self._messages += map(_message, whole)
                self._news.notify_all()

    def _stop(self) -> None:
        """Ask politely, then end the process and whatever it has started; this ends the reader too."""
        self._process.terminate()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _report(self, what: str) -> str:
        said = [f"{message.type} {message.text or message.payload}" for message in self.messages]
        return "\n".join([f"{' '.join(map(str, self._command))} {what}", *said, _text(self._output)])


def interpreter() -> Path:
    """A Python >= 3.12 with the pinned requirements and the runtime, made where need be. Raises RuntimeMissing."""
    if sys.version_info >= (3, 12) and importlib.util.find_spec("vercel_runtime"):
        return Path(sys.executable)
    python, version = find_python()
    if version < (3, 12):
        found = ".".join(map(str, version))
        raise RuntimeMissing(f"Vercel's runtime needs Python >= 3.12 on PATH or under pyenv; the best here is {found}.")
    STATE.mkdir(exist_ok=True)
    with (STATE / "runtime-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _prepared(STATE / "runtime-venv", python)


def find_python() -> tuple[Path, tuple[int, int]]:
    """The Python that scripts/find-python names (3.12 where there is one) and its version. Raises RuntimeMissing."""
    # Without PYTHON: that says which Python .venv is to have, and it may be an older one.
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "PYENV_ROOT") if name in os.environ}
    found = subprocess.run(
        ["sh", ROOT / "scripts" / "find-python"],  # noqa: S607 - the shell of the machine
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise RuntimeMissing(found.stderr.strip())
    python = found.stdout.strip()
    version = _run([python, "-c", "import sys; print(*sys.version_info[:2])"]).split()
    return Path(python), (int(version[0]), int(version[1]))


def _prepared(venv: Path, python: Path) -> Path:
    """The interpreter of a virtual environment as the pins want it; made anew when they or the base have changed."""
    pins = (ROOT / "requirements-dev.txt").read_text()
    runtime = re.findall(r"^vercel-runtime==[^\s;]+", pins, re.MULTILINE)
    requirements = ROOT / "requirements.txt"
    wanted = "\n".join([str(python), *runtime, requirements.read_text()])
    stamp, made = venv / ".stamp", venv / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted and made.exists()):
        uv = ROOT / ".venv" / "bin" / "uv"
        _run([uv, "venv", "--quiet", "--clear", "--python", python, venv])
        _run([uv, "pip", "install", "--quiet", "--python", made, "--no-deps", "-r", requirements, *runtime])
        stamp.write_text(wanted)
    return made


def _run(command: Sequence[str | Path]) -> str:
    """What a tool prints. Raises RuntimeMissing with its complaint."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise RuntimeMissing(f"{command[0]} is missing: run make install-dev.") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeMissing(f"{' '.join(map(str, command))} failed: {error.stderr.strip()}") from error


def _message(line: bytes) -> Message:
    value = json.loads(line)
    return Message(value["type"], value.get("payload", {}))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
