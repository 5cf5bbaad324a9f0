-- Idempotency-Key: the first request does the work under a lease, the others get its answer or wait.
create table public.idempotency_keys (
  owner_id uuid not null,
  route text not null,
  key text not null check (length(key) between 1 and 255),
  request_hash text not null,
  state text not null default 'running' check (state in ('running', 'done')),
  attempt integer not null default 1,
  lease_until timestamptz not null,
  status smallint check (status between 100 and 599),
  response jsonb,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (owner_id, route, key),
  check ((state = 'done') = (status is not null))
);
comment on table public.idempotency_keys is 'Answers kept for a day under the keys that callers gave with their requests.';
create index idempotency_keys_expires_idx on public.idempotency_keys (expires_at);
alter table public.idempotency_keys enable row level security;
revoke all on public.idempotency_keys from anon, authenticated, service_role;

create function public.claim_idempotency_key(
  p_owner_id uuid, p_route text, p_key text, p_request_hash text, p_lease_s integer default 300
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_keep interval := (select keep from private.retention where table_name = 'idempotency_keys');
  v_row public.idempotency_keys;
begin
  loop
    insert into public.idempotency_keys (owner_id, route, key, request_hash, lease_until, created_at, expires_at)
    values (p_owner_id, p_route, p_key, p_request_hash, v_now + make_interval(secs => p_lease_s), v_now, v_now + v_keep)
    on conflict do nothing;
    if found then
      return '{"outcome": "claimed", "attempt": 1}';
    end if;
    select * into v_row from public.idempotency_keys
    where owner_id = p_owner_id and route = p_route and key = p_key for update;
    continue when not found; -- it was given back just now
    if v_row.expires_at > v_now then
      exit;
    end if;
    delete from public.idempotency_keys where owner_id = p_owner_id and route = p_route and key = p_key;
  end loop;
  if v_row.request_hash <> p_request_hash then
    return '{"outcome": "mismatch"}';
  elsif v_row.state = 'done' then
    return jsonb_build_object('outcome', 'done', 'status', v_row.status, 'response', v_row.response);
  elsif v_row.lease_until > v_now then
    return jsonb_build_object(
      'outcome', 'running', 'retry_after_s', ceil(extract(epoch from v_row.lease_until - v_now))::integer);
  end if;
  -- Who had it is taken for dead. If not, its answer will not be kept: the attempt is another now.
  update public.idempotency_keys set attempt = attempt + 1, lease_until = v_now + make_interval(secs => p_lease_s)
  where owner_id = p_owner_id and route = p_route and key = p_key;
  return jsonb_build_object('outcome', 'claimed', 'attempt', v_row.attempt + 1);
end
$$;
comment on function public.claim_idempotency_key is
  'claimed: do the work. running: somebody does. done: here is the answer. mismatch: another body came under this key.';

create function public.complete_idempotency_key(
  p_owner_id uuid, p_route text, p_key text, p_attempt integer, p_status integer, p_response jsonb
) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update public.idempotency_keys set state = 'done', status = p_status, response = p_response
  where owner_id = p_owner_id and route = p_route and key = p_key and attempt = p_attempt and state = 'running';
  return found;
end
$$;
comment on function public.complete_idempotency_key is 'Keeps the answer of an attempt; false where another has taken over.';

create function public.release_idempotency_key(p_owner_id uuid, p_route text, p_key text, p_attempt integer)
returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  delete from public.idempotency_keys
  where owner_id = p_owner_id and route = p_route and key = p_key and attempt = p_attempt and state = 'running';
  return found;
end
$$;
comment on function public.release_idempotency_key is 'Forgets an attempt that failed, so that the request may be repeated.';

-- DELETE /api/generate/{request_id}: the instance that streams looks for its row every second.
create table public.stop_requests (
  request_id uuid not null,
  -- Who asks, not who is asked: a row stops only the request of the same caller, so that nobody can stop another's.
  user_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (request_id, user_id)
);
comment on table public.stop_requests is 'Who wants which generation to stop.';
create index stop_requests_created_idx on public.stop_requests (created_at);
alter table public.stop_requests enable row level security;
revoke all on public.stop_requests from anon, authenticated, service_role;

create function public.request_stop(p_request_id uuid, p_user_id uuid) returns void
language sql security definer set search_path = ''
as $$ insert into public.stop_requests values (p_request_id, p_user_id) on conflict do nothing $$;

create function public.stop_requested(p_request_id uuid, p_user_id uuid) returns boolean
language sql stable security definer set search_path = ''
as $$
  select exists (select from public.stop_requests where request_id = p_request_id and user_id = p_user_id)
$$;

insert into private.retention values ('idempotency_keys', interval '24 hours'), ('stop_requests', interval '1 hour');

revoke all on function public.claim_idempotency_key, public.complete_idempotency_key, public.release_idempotency_key,
  public.request_stop, public.stop_requested from public, anon, authenticated;
grant execute on function public.claim_idempotency_key, public.complete_idempotency_key, public.release_idempotency_key,
  public.request_stop, public.stop_requested to service_role;
