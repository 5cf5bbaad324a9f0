"""Who may reach which rows: every table and partition of the catalogue, every caller, every verb."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid5

import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from psycopg.types.json import Jsonb

from lib.data.panels import PANELS as PANELS_BY_NAME
from tests.database import Database, Elsewhere
from tests.db.access import (
    CALLERS,
    USERS,
    VERBS,
    Caller,
    Connection,
    MakeRow,
    Prober,
    Reach,
    Row,
    Table,
    Verb,
    become,
    buckets,
    tables,
)
from tests.db.conftest import Session

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
Rights = dict[str, dict[Verb, Reach]]

READ: Rights = {"service": {"select": "all"}}
WRITE: Rights = {"service": {"select": "all", "insert": "all", "update": "all", "delete": "all"}}
OWN: Rights = {"users": {"select": "own"}}
ALL: Rights = {"users": {"select": "all"}}
OPERATORS: Rights = {"operator": {"select": "all"}}
NOBODY: Rights = {}
# What is not said is forbidden. `users` are all who signed in, guests among them, and operators where nothing else is
# said of these.
EXPECTED: dict[str, Rights] = {
    "public.inference_events": OWN | OPERATORS | READ,
    "public.inference_rollup_5m": OPERATORS | READ,
    "public.inference_rollup_1h": OPERATORS | READ,
    "public.feedback": OWN | OPERATORS | READ,
    "public.experiment_results": OPERATORS | READ,
    "public.assets": OWN | WRITE,
    "public.audio_assets": OWN | WRITE,
    "public.voices": ALL | WRITE,
    "public.limits": READ,
    "public.usage_counters": READ,
    "public.reservations": READ,
    "public.idempotency_keys": NOBODY,
    "public.stop_requests": NOBODY,
    "public.cron_runs": READ,
    "public.asset_generations": NOBODY,
    "public.vsl_jobs": OWN | READ,
    "public.vsl_steps": OWN | READ,
    "public.incidents": READ,
    "public.webhook_deliveries": READ,
    "public.rollouts": READ,
    "public.rollout_events": READ,
    "public.rollout_readings": READ,
    "public.flag_shares": READ,
    "private.rollout_baseline": NOBODY,
    "private.rollout_firsts": NOBODY,
    "private.rollout_counts": NOBODY,
    "private.recoveries": NOBODY,
    "private.turns": NOBODY,
    "private.retention": NOBODY,
    "private.removed_users": NOBODY,
    "private.rollup_due": NOBODY,
    "private.rollup_state": NOBODY,
    "storage.buckets": WRITE,
    "storage.objects in generated": OWN | WRITE,
    "storage.objects in vsl_assets": OWN | WRITE,
}
PARTITION = NOBODY
PANELS = {panel.function for panel in PANELS_BY_NAME.values() if panel.function is not None}
SIGNED_IN_FUNCTIONS = PANELS | {
    *("log_bucket", "log_bucket_middle", "utc_text", "inference_calls", "inference_cells", "dashboard_cells"),
    *("dashboard_totals", "panel_analysis"),
}
"""They run with their caller's rights: the policies decide what they see."""
SERVER_ONLY_FUNCTIONS = {
    *("ensure_event_partitions", "record_events", "reserve", "settle", "expire_reservations", "own_usage"),
    *("claim_idempotency_key", "complete_idempotency_key", "release_idempotency_key", "request_stop", "stops_among"),
    "adopt_guest",
    *(
        "kept_generation",
        "claim_generation",
        "note_generation",
        "fail_generation",
        "keep_assets",
        "asset_of",
        "assets_of",
        "keep_links",
    ),
    "assets_among",
    *("begin_upload", "complete_upload", "remove_asset", "forget_lost_assets", "sweep_assets"),
    *("create_vsl_job", "vsl_job", "vsl_jobs_of", "claim_vsl_job", "renew_vsl_job", "release_vsl_job"),
    *("start_vsl_step", "finish_vsl_step", "finish_vsl_job", "cancel_vsl_job", "retry_vsl_job", "delete_vsl_job"),
    *("claim_vsl_webhook", "finish_vsl_webhook", "keep_vsl_answer"),
    *("accept_delivery", "pending_deliveries", "observe_incident", "resolve_incidents"),
    *("recover_incidents", "claim_incident", "record_incident", "human_on_incident", "incidents_to_settle"),
    *("incident_of", "take_turn", "applied_migrations", "operations_report", "prune_incidents"),
    *("start_cron_run", "finish_cron_run", "apply_retention", "forget_user"),
    *("rollup_inference", "trim_telemetry", "record_feedback", "forget_feedback"),
    *("experiment_units", "experiments_since", "experiment_began", "keep_experiment_result"),
    *("look_at_rollout", "save_rollout", "keep_rollout_reading", "rollout_history", "rollout_traffic", "due_rollouts"),
    *("trim_rollouts", "flag_shares", "set_flag_share"),
}


def event(user: UUID, number: int, created_at: datetime = NOW) -> Row:
    """An event."""
    return {
        "id": uuid5(user, f"event {number} {created_at}"),
        "created_at": created_at,
        "request_id": uuid5(user, f"request {number}"),
        "attempt": 1,
        "kind": "first",
        "user_id": user,
        "caller_kind": "user",
        "route": "/api/generate",
        "modality": "text",
        "provider": "groq",
        "model": "openai/gpt-oss-20b",
        "outcome": "ok",
        "latency_ms": 1,
        "input_tokens": 1,
        "output_tokens": 1,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "estimated": False,
        "cold_start": False,
        "metadata": Jsonb({}),
    }


def asset(user: UUID, number: int) -> Row:
    """An asset."""
    return {
        "id": uuid5(user, f"asset {number}"),
        "user_id": user,
        "bucket_id": "generated",
        "path": f"{user}/{number}.png",
        "content_type": "image/png",
        "bytes": 1,
        "sha256": "0" * 64,
        "kind": "image",
    }


def vsl_job(user: UUID, number: int) -> Row:
    """A sales letter."""
    return {
        "id": uuid5(user, f"job {number}"),
        "user_id": user,
        "caller_kind": "user",
        "request": Jsonb({}),
        "request_hash": f"{uuid5(user, f'job {number}').hex}{'0' * 32}",
        "next_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }


def cell(user: UUID, number: int) -> Row:
    """A cell of the rollup."""
    texts = (
        "provider",
        "model",
        "route",
        "experiment",
        "arm",
        "kind",
        "outcome",
        "error_code",
        "fallback_from",
        "cause",
    )
    numbers = (
        *("calls", "requests", "failed", "rescued", "saved", "input_tokens", "output_tokens", "cached_tokens"),
        *("cost_microusd", "unpriced", "saving_microusd"),
    )
    lists = [f"{measure}_{side}" for measure in ("latency", "ttft", "speed") for side in ("buckets", "counts")]
    return {
        "bucket_start": NOW,
        **dict.fromkeys(texts, ""),
        "provider": f"{user} {number}",
        **{name: [] for name in lists},
        **dict.fromkeys(numbers, 1),
    }


def stored(bucket: str) -> MakeRow:
    """A file of a bucket."""
    return lambda user, number: {"name": f"{user}/{bucket}-{number}.png", "bucket_id": bucket, "version": "1"}


# A row of each table, and the column to tell it by. The last column is the one that an update sets.
ROWS: dict[str, tuple[str, MakeRow]] = {
    "public.inference_events": ("id", event),
    "public.inference_rollup_5m": ("provider", cell),
    "public.inference_rollup_1h": ("provider", cell),
    "public.feedback": (
        "request_id",
        lambda user, number: {"request_id": uuid5(user, f"request {20 + number}"), "created_at": NOW, "thumb": 1},
    ),
    "public.experiment_results": (
        "experiment",
        lambda user, number: {
            "experiment": f"{user} {number}",
            "period": "7d",
            "computed_at": NOW,
            "result": Jsonb({}),
        },
    ),
    "public.assets": ("id", asset),
    "public.audio_assets": (
        "asset_id",
        lambda user, number: {"asset_id": uuid5(user, f"asset {10 + number}"), "duration_ms": 1},
    ),
    "public.rollouts": (
        "gate",
        lambda user, number: {
            "gate": f"{user} {number}",
            "rollout_id": "r",
            "status": "stage",
            "stage": 0,
            "share": 0.1,
            "in_store": 0.1,
            "since": NOW,
            "version": 1,
            "settled": False,
            "announced": False,
            "params": Jsonb({}),
            "began_at": NOW,
        },
    ),
    "public.rollout_events": (
        "gate",
        lambda user, number: {
            "gate": f"{user} {number}",
            "rollout_id": "r",
            "version": 1,
            "at": NOW,
            "kind": "started",
            "status": "baseline",
            "share": 0,
            "words": "",
            "evidence": Jsonb({}),
        },
    ),
    "public.rollout_readings": (
        "rollout_id",
        lambda user, number: {"rollout_id": f"{user} {number}", "at": NOW, "share": 0.1, "log_e": Jsonb({})},
    ),
    "public.flag_shares": (
        "gate",
        lambda user, number: {"gate": f"{user} {number}", "share": 0.1, "over": 0, "at": NOW},
    ),
    "private.rollout_baseline": (
        "user_id",
        lambda user, number: {
            "rollout_id": str(number),
            "request_id": user,
            "user_id": user,
            "failed": False,
        },
    ),
    "private.rollout_firsts": (
        "user_id",
        lambda user, number: {"rollout_id": str(number), "what": "seen", "user_id": user, "share": 0.1},
    ),
    "private.rollout_counts": (
        "rollout_id",
        lambda user, number: {
            "rollout_id": f"{user} {number}",
            "what": "seen",
            "share": 0.1,
            "treated": True,
            "bucket": 0,
            "users": 1,
        },
    ),
    "public.voices": ("id", lambda user, number: {"provider": "local", "id": f"{user} {number}", "name": "Voice"}),
    "public.limits": (
        "subject",
        lambda user, number: {"subject": str(user), "scope": ("user", "key")[number], "microusd_per_day": 1},
    ),
    "public.usage_counters": (
        "subject",
        lambda user, number: {"day": NOW, "scope": ("user", "key")[number], "subject": str(user), "minute": NOW},
    ),
    "public.reservations": (
        "id",
        lambda user, number: {
            "id": uuid5(user, f"reservation {number}"),
            "caller_kind": "user",
            "caller_id": user,
            "day": NOW,
            "reserved_microusd": 1,
            "created_at": NOW,
            "expires_at": NOW,
        },
    ),
    "public.idempotency_keys": (
        "owner_id",
        lambda user, number: {
            "owner_id": user,
            "route": "/api/generate",
            "key": f"key {number}",
            "request_hash": "x",
            "lease_until": NOW,
            "created_at": NOW,
            "expires_at": NOW,
        },
    ),
    "public.stop_requests": (
        "user_id",
        lambda user, number: {"user_id": user, "request_id": uuid5(user, f"request {number}"), "created_at": NOW},
    ),
    "public.cron_runs": (
        "job",
        lambda user, number: {"job": f"{user} {number}", "lease_until": NOW, "started_at": NOW},
    ),
    "public.asset_generations": (
        "user_id",
        lambda user, number: {
            "user_id": user,
            "key": f"{uuid5(user, f'generation {number}').hex}{'0' * 32}",
            "holder": user,
            "lease_until": NOW,
            "created_at": NOW,
        },
    ),
    "public.vsl_jobs": ("id", vsl_job),
    "public.vsl_steps": (
        "job_id",
        lambda user, number: {
            "job_id": uuid5(user, f"job {10 + number}"),
            "step": "script",
            "user_id": user,
            "content_key": "0" * 64,
            "status": "running",
            "started_at": NOW,
        },
    ),
    "public.incidents": (
        "fingerprint",
        lambda user, number: {
            "fingerprint": f"v1:{uuid5(user, str(number)).hex[:16]}",
            "kind": "deploy",
            "subject": "deploy:prj:production",
            "title": "Failed",
            "evidence": Jsonb({}),
            "occurrences": 1,
            "first_seen": NOW,
            "last_seen": NOW,
            "opened_at": NOW,
        },
    ),
    "public.webhook_deliveries": (
        "delivery_id",
        lambda user, number: {
            "source": "vercel",
            "delivery_id": f"{user} {number}",
            "facts": Jsonb({}),
            "received_at": NOW,
            "tried_at": NOW,
        },
    ),
    "private.recoveries": ("subject", lambda user, number: {"subject": f"{user} {number}", "at": NOW}),
    "private.turns": ("job", lambda user, number: {"job": f"{user} {number}", "at": NOW}),
    "private.rollup_due": (
        "bucket_start",
        lambda user, number: {"bucket_start": datetime.fromtimestamp(user.int % 10**9 + number, UTC)},
    ),
    "private.rollup_state": ("name", lambda user, number: {"name": f"{user} {number}", "rolled_at": NOW}),
    "private.retention": ("table_name", lambda user, number: {"table_name": f"{user} {number}", "keep": "1 day"}),
    "private.removed_users": ("id", lambda user, number: {"id": uuid5(user, f"removed {number}"), "removed_at": NOW}),
    "storage.buckets": (
        "id",
        lambda user, number: {"id": f"{user} {number}", "name": f"{user} {number}", "owner": user},
    ),
    "storage.objects in generated": ("name", stored("generated")),
    "storage.objects in vsl_assets": ("name", stored("vsl_assets")),
}


@pytest.fixture
def connection(session: Session) -> Connection:
    """A superuser's connection to a database with users."""
    for user in USERS:
        session.rows("insert into auth.users (id) values (%s)", user.id)
        for number in (10, 11):  # for audio_assets and vsl_steps
            session.insert("assets", **asset(user.id, number))
            session.insert("vsl_jobs", **vsl_job(user.id, number))
        for number in (20, 21):  # for feedback
            session.insert("inference_events", **event(user.id, number))
    return session.connection


def partition_row(table: Table) -> MakeRow:
    """A row that belongs into a partition."""
    day = table.name.removeprefix("inference_events_")
    created_at = datetime(2100, 1, 1, tzinfo=UTC)
    if day != "default":
        created_at = datetime.strptime(day, "%Y%m%d").replace(hour=11, tzinfo=UTC)
    return lambda user, number: event(user, number, created_at)


def expectations(connection: Connection) -> dict[str, tuple[Table, str, MakeRow, Rights]]:
    """What is declared for each table of the catalogue, partition and bucket. Fails for one without."""
    declared: dict[str, tuple[Table, str, MakeRow, Rights]] = {}
    for table in tables(connection):
        names = [str(table)]
        if str(table) == "storage.objects":
            names = [f"storage.objects in {bucket}" for bucket, _ in buckets(connection)]
        for name in names:
            if table.parent == "inference_events":
                declared[name] = (table, "id", partition_row(table), PARTITION)
            else:
                assert name in EXPECTED, f"{name} is new: declare in EXPECTED who may reach it, and in ROWS a row"
                declared[name] = (table, *ROWS[name], EXPECTED[name])
    return declared


def expected(rights: Rights, caller: Caller, verb: Verb) -> Reach:
    """One cell."""
    name = caller.name if caller.name in rights or caller not in USERS else "users"
    return rights.get(name, {}).get(verb, "none")


def check_cells(connection: Connection, only: str = "") -> None:
    """Each caller reaches with each verb the rows that are declared, and no others, in the tables of this name."""
    declared = expectations(connection)
    assert declared.keys() >= EXPECTED.keys()
    control = Caller("control", "supabase_admin", {})
    for name, (table, key, make_row, rights) in declared.items():
        if only not in name:
            continue
        prober = Prober(connection, table, make_row, key)
        # Who may do anything reaches all: so the statements are sound, and a refusal is one.
        assert {verb: prober.reach(control, verb) for verb in VERBS} == dict.fromkeys(VERBS, "all"), name
        for caller in CALLERS:
            for verb in VERBS:
                reach, declared_reach = prober.reach(caller, verb), expected(rights, caller, verb)
                assert reach == declared_reach, (
                    f"{name}: {caller.name} can {verb} {reach}, declared is {declared_reach}"
                )


def test_every_cell(connection: Connection) -> None:
    """Of every table, partition and bucket that there is."""
    check_cells(connection)


def test_every_table_has_row_level_security(connection: Connection) -> None:
    """Asked of pg_class: the linter passes a table that nobody was granted, until somebody is."""
    assert [str(table) for table in tables(connection) if not table.has_rls] == []


def test_no_bucket_is_public(connection: Connection) -> None:
    """Files are handed out by signed URLs alone."""
    assert buckets(connection) == [("generated", False), ("vsl_assets", False)]


def test_nobody_may_do_what_policies_do_not_see(connection: Connection) -> None:
    """TRUNCATE empties a table whatever its policies say; REFERENCES and TRIGGER look into it."""
    rows = connection.execute(
        """
        select c.oid::regclass::text, role, privilege
        from pg_class c, unnest(array['anon', 'authenticated', 'service_role']) role,
          unnest(array['truncate', 'references', 'trigger']) privilege
        where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p')
          and has_table_privilege(role, c.oid, privilege)
        """
    )
    assert rows.fetchall() == []


def test_functions_are_the_servers(connection: Connection) -> None:
    """Functions of `public` run for the service role alone or with their caller's rights, others for no role."""
    query = """
        select p.proname, p.prosecdef, p.proconfig, array(
          select role from unnest(array['anon', 'authenticated', 'service_role']) role
          where has_function_privilege(role, p.oid, 'execute') and has_schema_privilege(role, p.pronamespace, 'usage'))
        from pg_proc p where p.pronamespace = %s::regnamespace
    """
    public = connection.execute(query, ["public"]).fetchall()
    assert {name for name, *_ in public} == SERVER_ONLY_FUNCTIONS | SIGNED_IN_FUNCTIONS
    servers = {name: roles for name, _, _, roles in public if name in SERVER_ONLY_FUNCTIONS}
    assert {name: roles for name, roles in servers.items() if roles != ["service_role"]} == {}
    others = {name: (roles, definer) for name, definer, _, roles in public if name in SIGNED_IN_FUNCTIONS}
    assert {name: told for name, told in others.items() if told != (["authenticated", "service_role"], False)} == {}
    private = connection.execute(query, ["private"]).fetchall()
    assert {name: roles for name, _, _, roles in private if roles} == {}
    # Else a caller could put a table or function of its own in the place of one that they name.
    assert {name for name, _, config, _ in public + private if 'search_path=""' not in (config or [])} == set()


def test_a_policy_per_role_and_verb(connection: Connection) -> None:
    """Two permissive policies for the same thing are an `or` that nobody sees."""
    rows = connection.execute(
        """
        select schemaname, tablename, role, cmd from pg_policies, unnest(roles) role
        where schemaname = any (array['public', 'private', 'storage']) and permissive = 'PERMISSIVE'
        group by 1, 2, 3, 4 having count(*) > 1
        """
    )
    assert rows.fetchall() == []


@pytest.mark.parametrize(
    ("path", "visible"),
    [
        ("{id}/file.png", True),
        ("{id}/folder/file.png", True),
        ("{id}", False),
        ("{id}x/file.png", False),
        ("/{id}/file.png", False),
        ("other/{id}/file.png", False),
        ("../{id}/file.png", False),
        ("{ID}/file.png", False),
        ("{id} /file.png", False),
    ],
)
def test_a_file_belongs_to_the_first_folder_of_its_path(connection: Connection, path: str, *, visible: bool) -> None:
    """And to nobody whose id is merely part of it."""
    user = USERS[1]
    name = path.format(id=user.id, ID=str(user.id).upper())
    connection.execute("insert into storage.objects (bucket_id, name) values ('generated', %s)", [name])
    with connection.transaction():
        become(connection, user)
        assert connection.execute("select count(*) from storage.objects").fetchone() == (int(visible),)


def test_the_login_of_the_api_can_do_nothing_by_itself(shared_database: Database | Elsewhere) -> None:
    """`authenticator` may take the place of the API's roles, and has no right of its own."""
    with shared_database.connect(user="authenticator") as connection:
        for role in ("anon", "authenticated", "service_role"):
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
            connection.execute("reset role")
        with pytest.raises(InsufficientPrivilege):
            connection.execute("set role postgres")
        with pytest.raises(InsufficientPrivilege):
            connection.execute("select * from public.voices")


READ_BY_ANON = "create policy wide on {0} for select to anon using (true); grant select on {0} to anon"
MISTAKES: list[tuple[str, Callable[[Connection], None], str]] = [
    ("create table public.forgotten (id int)", test_every_cell, "public.forgotten is new"),
    ("create table public.forgotten (id int)", test_every_table_has_row_level_security, "public.forgotten"),
    ("create view public.forgotten as select * from public.assets", test_every_cell, "public.forgotten is new"),
    ("insert into storage.buckets (id, name) values ('stray', 'stray')", test_every_cell, "in stray is new"),
    ("update storage.buckets set public = true", test_no_bucket_is_public, "True"),
    (READ_BY_ANON.format("public.limits"), partial(check_cells, only="public.limits"), "anon can select all"),
    (
        "alter table public.assets disable row level security",
        partial(check_cells, only="public.assets"),
        "guest can select all",
    ),
    (
        "grant select on public.inference_events_default to service_role",
        partial(check_cells, only="events_default"),
        "service can select all",
    ),
    (
        "alter table public.inference_events_default disable row level security",
        test_every_table_has_row_level_security,
        "inference_events_default",
    ),
    (
        "create policy wide on storage.objects for insert to authenticated with check (true)",
        partial(check_cells, only="in generated"),
        "guest can insert all",
    ),
    (
        "create policy wide on storage.objects for select to anon using (bucket_id = 'vsl_assets')",
        partial(check_cells, only="in vsl_assets"),
        "anon can select all",
    ),
    ('drop policy "own files" on storage.objects', partial(check_cells, only="in generated"), "guest can select none"),
    (
        "create policy again on public.assets for select to authenticated using (user_id = (select auth.uid()))",
        test_a_policy_per_role_and_verb,
        "assets",
    ),
    ("grant execute on function public.settle to anon", test_functions_are_the_servers, "settle"),
    ("create function public.lax() returns int language sql as 'select 1'", test_functions_are_the_servers, "lax"),
    ("grant truncate on public.assets to anon", test_nobody_may_do_what_policies_do_not_see, "assets"),
]


@pytest.mark.parametrize(("mistake", "check", "message"), MISTAKES, ids=[mistake for mistake, *_ in MISTAKES])
def test_a_mistake_is_found(
    connection: Connection, mistake: str, check: Callable[[Connection], None], message: str
) -> None:
    """What a later migration might get wrong makes one of the tests above fail."""
    connection.execute(mistake.encode())
    with pytest.raises(AssertionError, match=message):
        check(connection)
