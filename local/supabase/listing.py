"""What lies in a folder of a bucket: names up to the next slash, as storage.search of the hosted service finds them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, LiteralString

from psycopg.sql import SQL, Identifier
from pydantic import BaseModel, ConfigDict, Field

from local.supabase.database import Connection

MAX_LISTED = 1000
LIST: LiteralString = """
with item as (
  select *, split_part(substr(name, length(%(prefix)s) + 1), '/', 1) as first,
         position('/' in substr(name, length(%(prefix)s) + 1)) > 0 as is_folder
    from storage.objects
   where bucket_id = %(bucket)s and starts_with(name, %(prefix)s)
), listed as (
  select first, true as is_folder, null::uuid as id, null::timestamptz as updated_at, null::timestamptz as created_at,
         null::timestamptz as last_accessed_at, null::jsonb as metadata
    from item where is_folder group by first
  union all
  select first, false, id, updated_at, created_at, last_accessed_at, metadata from item where not is_folder
)
select jsonb_build_object('name', first, 'id', id, 'updated_at', updated_at, 'created_at', created_at,
                          'last_accessed_at', last_accessed_at, 'metadata', metadata)
  from listed
 where starts_with(lower(first), lower(%(search)s))
"""


class SortBy(BaseModel):
    """By what a listing is ordered."""

    model_config = ConfigDict(extra="forbid")

    column: Literal["name", "updated_at", "created_at", "last_accessed_at"] = "name"
    order: Literal["asc", "desc"] = "asc"


class Listing(BaseModel):
    """What a caller wants to see."""

    model_config = ConfigDict(extra="forbid")

    prefix: str = ""
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 100
    offset: Annotated[int, Field(ge=0, lt=2**31)] = 0
    search: str | None = None
    sortBy: SortBy = SortBy()  # noqa: N815 - as the wire has it


async def listed(connection: Connection, bucket: str, asked: Listing) -> list[dict[str, Any]]:
    """Folders, then files, of those that the caller may see."""
    prefix = asked.prefix.lstrip("/")
    values = {
        "bucket": bucket,
        "prefix": f"{prefix}/" if prefix and not prefix.endswith("/") else prefix,
        "search": asked.search or "",
        "limit": asked.limit,
        "offset": asked.offset,
    }
    column = "first" if asked.sortBy.column == "name" else asked.sortBy.column
    order = SQL(" order by is_folder desc, {} {}, first limit %(limit)s offset %(offset)s").format(
        Identifier(column), SQL("desc" if asked.sortBy.order == "desc" else "asc")
    )
    cursor = await connection.execute(SQL(LIST) + order, values)
    return [row for (row,) in await cursor.fetchall()]
