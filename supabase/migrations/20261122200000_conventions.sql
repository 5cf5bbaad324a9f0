-- Nothing is reachable through the Data API unless a migration grants it by name, whatever the project's defaults are.
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;
alter default privileges revoke execute on functions from public;

-- What only our own functions and policies use. The Data API does not serve it, and its roles may not enter it.
create schema private;

-- The clock of all functions: a test replaces it.
create function private.now() returns timestamptz
language sql volatile set search_path = ''
as $$ select clock_timestamp() $$;

create function private.today() returns date
language sql volatile set search_path = ''
as $$ select (private.now() at time zone 'UTC')::date $$;

create table private.retention (
  table_name text primary key,
  keep interval not null check (keep > interval '0')
);
alter table private.retention enable row level security;
comment on table private.retention is 'How long apply_retention() keeps rows, by table. Change a row to change it.';
