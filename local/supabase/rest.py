"""The Data API, as PostgREST serves it: rows of `public` and its functions, under the caller's role and policies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.supabase import catalog, statements
from local.supabase.access import Access
from local.supabase.answers import HANDLERS, JSON, TooLarge, answer, body, is_list, is_object, not_supported
from local.supabase.catalog import Table
from local.supabase.database import Connection, Database
from local.supabase.preferences import Preferences, preferences
from local.supabase.query import Query, QueryError, parse
from local.supabase.statements import SCHEMA, Function, Statement
from local.supabase.tokens import TokenError

OBJECT = "application/vnd.pgrst.object+json"
ARRAY = {"application/json", "application/vnd.pgrst.array+json", "application/*", "*/*"}
RANGE = re.compile(r"(\d{1,18})-(\d{1,18})?")

# https://docs.postgrest.org/en/v14/references/errors.html: the longest beginning of the SQLSTATE decides; else 400.
STATUS = {
    **dict.fromkeys(("09", "21", "25", "2D", "38", "39", "3B", "40", "53400", "54", "55", "57", "58"), 500),
    **dict.fromkeys(("F0", "HV", "P0", "XX", "42P17"), 500),
    **dict.fromkeys(("08", "53", "57P01"), 503),
    **dict.fromkeys(("0L", "0P", "28", "42501"), 403),
    **dict.fromkeys(("23503", "23505"), 409),
    **dict.fromkeys(("42883", "42P01"), 404),
    "25006": 405,
    "P0001": 400,
}


class RestError(Exception):
    """An error in PostgREST's shape."""

    def __init__(
        self, status: int, code: str, message: str, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"code": code, "message": message, "details": details, "hint": hint}


def rest(database: Database, access: Access) -> Starlette:
    """The service, to be mounted at /rest/v1."""
    service = _Rest(database, access)
    return Starlette(
        routes=[
            Route("/rpc/{name}", service.function, methods=["GET", "HEAD", "POST"]),
            Route("/{name}", service.table, methods=["GET", "HEAD", "POST", "PATCH", "DELETE"]),
            Route("/{path:path}", not_supported, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        exception_handlers={
            **HANDLERS,
            RestError: _rest_error,
            QueryError: _query_error,
            TokenError: _token_error,
            TooLarge: _too_large,
            psycopg.Error: _database_error,
            PoolTimeout: _pool_timeout,
        },
    )


class _Wanted:
    """What the headers of a request ask for."""

    def __init__(self, request: Request, access: Access) -> None:
        request.state.caller = access.caller(request)
        profile = request.headers.get("accept-profile"), request.headers.get("content-profile")
        if {*profile} - {None, SCHEMA}:
            hint = f"Only the following schemas are exposed: {SCHEMA}"
            raise RestError(406, "PGRST106", f"Invalid schema: {profile[0] or profile[1]}", hint=hint)
        self.preferences = preferences(request.headers.getlist("prefer"))
        self.single = _is_single(request.headers.get("accept", "*/*"))
        self._range = request.headers.get("range")

    def ranged(self, query: Query) -> Query:
        """The query within the `Range` header, as `0-9` or `10-`."""
        if self._range is None:
            return query
        found = RANGE.fullmatch(self._range)
        if found is None or query.limit is not None or query.offset:
            raise QueryError("The Range is not of the form 0-9, or limit and offset are given too")
        start, end = int(found[1]), int(found[2]) if found[2] else None
        if end is not None and end < start:
            details = "The lower boundary must be lower than or equal to the upper boundary in the Range header."
            raise RestError(416, "PGRST103", "Requested range not satisfiable", details)
        return replace(query, offset=start, limit=None if end is None else end - start + 1)

    def check(self, size: int, *, changed: bool) -> None:
        """Raise RestError where so many rows are not what was wanted; what was changed is then undone."""
        limit = self.preferences.max_affected
        if changed and limit is not None and size > limit:
            message = "Query result exceeds max-affected preference constraint"
            raise RestError(400, "PGRST124", message, f"The query affects {size} rows")
        if self.single and size != 1:
            message = "Cannot coerce the result to a single JSON object"
            raise RestError(406, "PGRST116", message, f"The result contains {size} rows")


class _Rest:
    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access

    async def table(self, request: Request) -> Response:
        """Read or change the rows of a table."""
        wanted = _Wanted(request, self._access)
        name = _name(request)
        reading = request.method in {"GET", "HEAD"}
        content = await body(request)
        async with self._database.as_caller(request.state.caller, read_only=reading) as connection:
            table = await catalog.table(connection, name)
            if table is None:
                raise RestError(404, "PGRST205", f"Could not find the table '{SCHEMA}.{name}' in the schema cache")
            if reading:
                query = parse(request.query_params.multi_items(), allowed=("select", "order", "limit", "offset"))
                query = wanted.ranged(query)
                statement = statements.read(name, query, count=wanted.preferences.count)
                return _page(wanted, query, *await _run(connection, statement))
            if request.method == "POST":
                statement = _insert(request, name, table, content, wanted.preferences)
            else:
                statement = _change(request, name, table, content, wanted.preferences)
            text, affected, _ = await _run(connection, statement)
            wanted.check(affected, changed=True)
        count = affected if wanted.preferences.count else "*"
        content_range = f"0-{affected - 1}/{count}" if request.method == "PATCH" and affected else f"*/{count}"
        headers = {"content-range": content_range}
        if wanted.preferences.representation:
            status = 201 if request.method == "POST" else 200
            return Response(text[1:-1] if wanted.single else text, status, headers, JSON)
        return Response(status_code=201 if request.method == "POST" else 204, headers=headers)

    async def function(self, request: Request) -> Response:
        """Call a function, with arguments from the body (POST) or from the parameters (GET)."""
        wanted = _Wanted(request, self._access)
        if wanted.preferences.max_affected is not None:
            raise QueryError("The preference max-affected is not supported for functions")
        name = _name(request)
        parameters = request.query_params.multi_items()
        posted = request.method == "POST"
        content = await body(request) or b"{}"
        async with self._database.as_caller(request.state.caller, read_only=not posted) as connection:
            functions = await catalog.functions(connection, name)
            if posted:
                arguments = content
                function = _chosen(name, functions, names := list(_object(content)))
            else:
                known = {argument for function in functions for argument in function.arguments}
                names = [key for key, _ in parameters if key in known]
                if len(set(names)) < len(names):
                    raise QueryError("An argument is given twice")
                arguments = {key: value for key, value in parameters if key in known}
                parameters = [(key, value) for key, value in parameters if key not in known]
                function = _chosen(name, functions, names)
            rows = function.returns_rows
            allowed = ("select", "order", "limit", "offset") if rows else ("limit", "offset")
            query = wanted.ranged(parse(parameters, allowed=allowed, filters=rows))
            statement = statements.call(function, arguments, names, query, count=wanted.preferences.count)
            text, size, total = await _run(connection, statement)
            if function.returns_nothing:
                return Response(status_code=204)
            if function.returns_set:
                return _page(wanted, query, text, size, total)
        return Response(text, 200, {"content-range": f"0-0/{total or '*'}"}, JSON)


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if "\0" in name:
        raise QueryError("A name contains the character NUL")
    return name


def _is_single(accept: str) -> bool:
    """Whether one object is wanted in place of an array. Raises RestError for what can't be given, CSV say."""
    for item in accept.split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        if any(not parameter.startswith(("q=", "charset=")) for parameter in parameters):
            continue
        if media_type == OBJECT:
            return True
        if media_type in ARRAY:
            return False
    raise RestError(406, "PGRST107", f"None of these media types are available: {accept}")


def _insert(request: Request, name: str, table: Table, content: bytes, preferences: Preferences) -> Statement:
    parameters = request.query_params.multi_items()
    query = parse(parameters, allowed=("select", "columns", "on_conflict"), filters=False)
    if query.on_conflict and preferences.on_duplicates is None:
        raise QueryError("on_conflict is given without the preference resolution")
    value = _json(content)
    if is_object(value):
        value, content = [value], b"[" + content + b"]"
    if not is_list(value) or not all(map(is_object, value)):
        raise RestError(400, "PGRST102", "The body is neither an object nor an array of objects")
    if not value:
        return statements.NOTHING
    columns = _known(name, table, query.columns or tuple(value[0]))
    if query.columns is None and any(row.keys() != value[0].keys() for row in value):
        raise RestError(400, "PGRST102", "All object keys must match")
    missing_default = preferences.missing_default
    taken = [[column for column in columns if column in row or not missing_default] for row in value]
    return statements.insert(name, content, taken, query, preferences, table.key)


def _change(request: Request, name: str, table: Table, content: bytes, preferences: Preferences) -> Statement:
    updates = request.method == "PATCH"
    query = parse(request.query_params.multi_items(), allowed=("select", "columns") if updates else ("select",))
    if not query.where:
        # As the hosted database has it by pg-safeupdate.
        raise RestError(400, "21000", f"{'UPDATE' if updates else 'DELETE'} requires a WHERE clause")
    if not updates:
        return statements.delete(name, query, preferences)
    given = _object(content)
    columns = _known(name, table, [key for key in given if query.columns is None or key in query.columns])
    return statements.update(name, content, columns, query, preferences) if columns else statements.NOTHING


def _known(name: str, table: Table, columns: Sequence[str]) -> Sequence[str]:
    for column in columns:
        if column not in table.columns:
            message = f"Could not find the '{column}' column of '{name}' in the schema cache"
            raise RestError(400, "PGRST204", message)
    return columns


def _chosen(name: str, functions: Sequence[Function], names: Sequence[str]) -> Function:
    """The one function that can be called so."""
    fitting = [function for function in functions if function.takes(names)]
    if len(fitting) == 1:
        return fitting[0]
    called = f"{SCHEMA}.{name}" + (f"({', '.join(names)})" if names else " without parameters")
    if fitting:
        raise RestError(300, "PGRST203", f"Could not choose the best candidate function for {called}")
    details = f"Searched for the function {called}, but no matches were found in the schema cache."
    message = f"Could not find the function {called} in the schema cache"
    raise RestError(404, "PGRST202", message, details)


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RestError(400, "PGRST102", "Empty or invalid json") from error


def _object(content: bytes) -> dict[str, Any]:
    value = _json(content)
    if not is_object(value):
        raise RestError(400, "PGRST102", "The body is no object")
    return value


async def _run(connection: Connection, statement: Statement) -> tuple[str, int, int | None]:
    cursor = await connection.execute(statement.text, statement.parameters)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - every statement aggregates into one row
    return row[0], row[1], row[2]


def _page(wanted: _Wanted, query: Query, text: str, size: int, total: int | None) -> Response:
    """Rows that were read, of `total` in all where they were counted."""
    if total is not None and query.offset > total:
        details = f"An offset of {query.offset} was requested, but there are only {total} rows."
        raise RestError(416, "PGRST103", "Requested range not satisfiable", details)
    wanted.check(size, changed=False)
    span = f"{query.offset}-{query.offset + size - 1}" if size else "*"
    headers = {"content-range": f"{span}/{'*' if total is None else total}"}
    status = 206 if total is not None and size < total else 200
    return Response(text[1:-1] if wanted.single else text, status, headers, JSON)


async def _rest_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RestError)  # noqa: S101 - registered for it alone
    return answer(error.content, error.status)


async def _query_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QueryError)  # noqa: S101 - registered for it alone
    return await _rest_error(request, RestError(400, "PGRST100", error.message, error.details))


async def _token_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TokenError)  # noqa: S101 - registered for it alone
    code = "PGRST303" if error.expired else "PGRST301"
    return await _rest_error(request, RestError(401, code, error.message))


async def _too_large(request: Request, _error: Exception) -> Response:
    return await _rest_error(request, RestError(413, "PGRST102", "The body is too large"))


async def _database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, psycopg.Error)  # noqa: S101 - registered for it alone
    state, diagnosis = error.sqlstate, error.diag
    if state is None and isinstance(error, psycopg.DataError):
        # Refused before it was sent; Postgres would have said this.
        refused = RestError(400, "22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    elif state is None:
        refused = RestError(503, "PGRST001", "Database client error. Retrying the connection.")
    else:
        text = diagnosis.message_primary or state
        status = _status(state, signed_in=request.state.caller.role != "anon")
        refused = RestError(status, state, text, diagnosis.message_detail, diagnosis.message_hint)
    return await _rest_error(request, refused)


def _status(state: str, *, signed_in: bool) -> int:
    if state == "42501" and not signed_in:
        return 401
    if re.fullmatch(r"PT[1-5]\d\d", state):
        return int(state[2:])
    return next((STATUS[state[:length]] for length in (5, 4, 3, 2) if state[:length] in STATUS), 400)


async def _pool_timeout(request: Request, _error: Exception) -> Response:
    message = "Timed out acquiring connection from connection pool."
    return await _rest_error(request, RestError(504, "PGRST003", message))
