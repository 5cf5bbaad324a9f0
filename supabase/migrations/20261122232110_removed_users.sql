-- An access token holds until it ends, also when its user is gone. Whoever removes a user, the server or somebody in
-- Studio, nothing is paid for that user any more: it is known here for longer than any token may live (a week).
create table private.removed_users (
  id uuid primary key,
  removed_at timestamptz not null default private.now()
);
alter table private.removed_users enable row level security;
comment on table private.removed_users is 'Ids of users who were removed in the last eight days, and nothing else of them.';

create function private.note_removed_user() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from private.removed_users where removed_at < private.now() - interval '8 days';
  insert into private.removed_users (id) values (old.id) on conflict (id) do update set removed_at = excluded.removed_at;
  return null;
end
$$;
create trigger note_removed_user after delete on auth.users
for each row execute function private.note_removed_user();

alter function public.reserve set schema private;
alter function private.reserve rename to reserve_within_limits;
alter function private.reserve_within_limits reset lock_timeout;
revoke all on function private.reserve_within_limits from service_role;
comment on function private.reserve_within_limits is 'What reserve() does for those who are still there.';

-- In the same round trip. A holder of an API key may come back: what removes it is taking back the key.
create function public.reserve(
  p_reservation_id uuid,
  p_caller_kind text,
  p_caller_id uuid,
  p_microusd bigint,
  p_requests integer default 1,
  p_lifetime_s integer default 900,
  p_total_microusd_per_day bigint default null,
  p_caller_microusd_per_day bigint default null
) returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '2s' -- then the caller hears 503, not nothing
as $$
begin
  if p_caller_kind <> 'key' and exists (select from private.removed_users where id = p_caller_id) then
    return '{"allowed": false, "reason": "user_removed"}';
  end if;
  return private.reserve_within_limits(
    p_reservation_id, p_caller_kind, p_caller_id, p_microusd, p_requests, p_lifetime_s, p_total_microusd_per_day,
    p_caller_microusd_per_day);
end
$$;
comment on function public.reserve is
  'Checks every limit and holds the worst case of a request, or says why not and when to come back. Repeatable by its id.';
revoke all on function public.reserve from public, anon, authenticated;
grant execute on function public.reserve to service_role;
