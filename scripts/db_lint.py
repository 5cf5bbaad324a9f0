"""`make db-lint`: Supabase's own lints over the migrations, by its command line tool, without Docker. Needs Node."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from local.postgres import OWNER, SUPERUSER, Postgres

ROOT = Path(__file__).parent.parent
SUPABASE = "supabase@3.1.0"
# Lints that only inform, of things that are meant: tables that are the server's alone have no policy, and a database
# that nobody has asked anything yet has used no index.
MEANT = re.compile(
    r"rls_enabled_no_policy_(public_(inference_events_(\d{8}|default)|limits|usage_counters|reservations"
    r"|idempotency_keys|stop_requests|cron_runs|asset_generations|incidents|webhook_deliveries"
    r"|rollouts|rollout_events|rollout_readings|flag_shares)"
    r"|private_(retention|recoveries|turns|removed_users|rollup_due|rollup_state|rollout_baseline|rollout_firsts|rollout_counts))$|unused_index_"
)
PASSWORD = "x"  # noqa: S105 - of a database that lives for seconds and holds nothing


def free_port() -> int:
    """A TCP port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def supabase(
    postgres: Postgres, port: int, *command: str, user: str = OWNER, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the Supabase CLI against a Postgres that listens on a TCP port: it can't use a socket."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"alter role {user} password '{PASSWORD}'".encode())
    remote = f"--remote=postgresql://{user}:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable"
    return subprocess.run(
        ["npx", "--yes", SUPABASE, *command, remote],  # noqa: S607 - wherever Node is installed
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=check,
    )


def findings(migrations: Path) -> list[dict[str, Any]]:
    """What the lints say of the migrations, apart from what is meant."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Postgres(folder / "postgres", settings={"port": str(port), "listen_addresses": "127.0.0.1"}) as postgres:
            postgres.migrate(migrations)
            options = ("--level", "info", "--fail-on", "none", "--output-format", "json")
            done = supabase(postgres, port, "db", "advisors", *options, user=SUPERUSER)
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return [each for each in results if each["level"] != "INFO" or not MEANT.match(each["cacheKey"])]


def main(migrations: Path) -> int:
    """Print what was found; return 1 where that is something."""
    found = findings(migrations)
    for each in found:
        print(f"{each['level']} {each['name']}: {each['detail']}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "supabase" / "migrations"))
