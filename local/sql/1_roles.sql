-- What a Supabase database has before the first migration: roles and what they may do, after supabase/postgres.
-- Run at every start, so each statement can be run again.

do $$
declare
  role text;
begin
  foreach role in array array[
    'postgres login createdb createrole replication bypassrls',
    'anon nologin noinherit',
    'authenticated nologin noinherit',
    'service_role nologin noinherit bypassrls',
    'authenticator login noinherit',
    'supabase_auth_admin login noinherit',
    'supabase_storage_admin login noinherit'
  ] loop
    if to_regrole(split_part(role, ' ', 1)) is null then
      execute 'create role ' || role;
    end if;
  end loop;
end
$$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
-- The hosted service lets `postgres` write policies on storage.objects through an extension; here by membership.
grant supabase_storage_admin to postgres;
grant anon, authenticated, service_role to supabase_storage_admin;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_storage_admin set search_path = storage;

do $$
begin
  execute format('alter database %I owner to postgres', current_database());
end
$$;

create schema if not exists extensions authorization postgres;
grant usage on schema extensions, public to postgres, anon, authenticated, service_role;

-- As hosted since 2026-10-30 (`auto_expose_new_tables = false`): nobody may read or write a new table or call a new
-- function unless a migration says so; but what rows can't be read by is still handed out, and TRUNCATE asks no policy.
alter default privileges for role postgres in schema public
  grant truncate, references, trigger on tables to anon, authenticated, service_role;
