-- Requests per minute and money per day, in UTC, at three levels: the caller, all callers of its kind, everyone.
-- Money is reserved before it is spent and settled after: what is spent and what is held never exceed a budget together,
-- however many ask at once, as long as nobody settles for more than they reserved.
create table public.limits (
  scope text not null check (scope in ('user', 'guest', 'key', 'total')),
  subject text not null check (subject ~ '^(each|all|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$'),
  requests_per_minute integer check (requests_per_minute >= 0),
  microusd_per_day bigint check (microusd_per_day >= 0),
  primary key (scope, subject),
  check (scope <> 'total' or subject = 'all')
);
comment on table public.limits is
  'Subject: a caller''s id, else `each` for every caller of the scope alone, or `all` for them together. Null: no limit.';
insert into public.limits (scope, subject, requests_per_minute, microusd_per_day) values
  ('guest', 'each', 10, 250000),
  -- Whoever makes guests by the thousand shall not use up what users and keys live on.
  ('guest', 'all', 300, 5000000),
  ('user', 'each', 30, 2000000),
  ('key', 'each', 600, 20000000),
  ('total', 'all', null, 25000000);

create table public.usage_counters (
  day date not null,
  scope text not null,
  subject text not null,
  minute timestamptz not null,
  minute_requests integer not null default 0,
  requests bigint not null default 0,
  reserved_microusd bigint not null default 0 check (reserved_microusd >= 0),
  spent_microusd bigint not null default 0 check (spent_microusd >= 0),
  primary key (day, scope, subject)
) with (fillfactor = 50); -- room for new versions of a row beside it: no index is touched by counting
comment on table public.usage_counters is
  'What a caller, all of its kind and everyone did on a UTC day. minute_requests counts the minute in `minute` alone.';

create table public.reservations (
  id uuid primary key,
  caller_kind text not null,
  caller_id uuid not null,
  day date not null,
  state text not null default 'held' check (state in ('held', 'settled', 'expired')),
  reserved_microusd bigint not null check (reserved_microusd >= 0),
  actual_microusd bigint check (actual_microusd >= 0),
  created_at timestamptz not null,
  expires_at timestamptz not null,
  ended_at timestamptz
);
comment on table public.reservations is 'Money held for a request that runs, and what it came to.';
create index reservations_held_idx on public.reservations (expires_at) where state = 'held';
create index reservations_caller_idx on public.reservations (caller_id);
create index reservations_ended_idx on public.reservations (ended_at) where state <> 'held';

-- Readable for the server, written by the functions below alone.
alter table public.limits enable row level security;
alter table public.usage_counters enable row level security;
alter table public.reservations enable row level security;
revoke all on public.limits, public.usage_counters, public.reservations from anon, authenticated, service_role;
grant select on public.limits, public.usage_counters, public.reservations to service_role;

insert into private.retention values ('usage_counters', interval '400 days'), ('reservations', interval '7 days');

-- Counters are always locked in this order, or two sessions could wait for one another: the caller's, its kind's, the
-- total. The total is held for the shortest time.
create function private.level_scope(p_level integer, p_kind text) returns text
language sql immutable set search_path = ''
as $$ select case when p_level = 3 then 'total' else p_kind end $$;

create function private.level_subject(p_level integer, p_caller uuid) returns text
language sql immutable set search_path = ''
as $$ select case when p_level = 1 then p_caller::text else 'all' end $$;

create function private.locked_counter(p_day date, p_scope text, p_subject text, p_minute timestamptz)
returns public.usage_counters
language plpgsql set search_path = ''
as $$
declare
  v_counter public.usage_counters;
begin
  loop
    select * into v_counter from public.usage_counters
    where day = p_day and scope = p_scope and subject = p_subject for update;
    exit when found;
    insert into public.usage_counters (day, scope, subject, minute) values (p_day, p_scope, p_subject, p_minute)
    on conflict do nothing;
  end loop;
  if v_counter.minute < p_minute then
    v_counter.minute := p_minute;
    v_counter.minute_requests := 0;
  end if;
  return v_counter;
end
$$;

create function private.limit_of(p_scope text, p_subject text) returns public.limits
language sql stable set search_path = ''
as $$
  select * from public.limits
  where scope = p_scope and (subject = p_subject or subject = 'each' and p_subject <> 'all')
  order by subject = 'each' limit 1
$$;

-- Where a caller stands, in the terms of x-ratelimit-*. Null: no limit. Seconds are whole and never 0.
create function private.standing(p_counter public.usage_counters, p_limit public.limits, p_now timestamptz) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_build_object(
    'requests', jsonb_build_object(
      'limit', p_limit.requests_per_minute,
      'remaining', greatest(p_limit.requests_per_minute - p_counter.minute_requests, 0),
      'reset_s', greatest(ceil(extract(epoch from p_counter.minute + interval '1 minute' - p_now)), 1)::integer),
    'budget', jsonb_build_object(
      'limit_microusd', p_limit.microusd_per_day,
      'remaining_microusd',
        greatest(p_limit.microusd_per_day - p_counter.reserved_microusd - p_counter.spent_microusd, 0),
      'reset_s', greatest(ceil(extract(epoch from (p_counter.day + 1)::timestamp at time zone 'UTC' - p_now)), 1)::integer))
$$;

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
declare
  v_now timestamptz := private.now();
  v_day date := (v_now at time zone 'UTC')::date;
  v_minute timestamptz := date_trunc('minute', v_now);
  v_held public.reservations;
  v_counter public.usage_counters;
  v_limit public.limits;
  v_own_counter public.usage_counters;
  v_own_limit public.limits;
  v_reason text;
  v_retry_after_s integer;
begin
  if p_caller_kind not in ('user', 'guest', 'key') or p_microusd < 0 or p_requests < 0 or p_lifetime_s <= 0
    or num_nulls(p_reservation_id, p_caller_kind, p_caller_id, p_microusd, p_requests, p_lifetime_s) > 0 then
    raise exception 'reserve: an argument is missing or out of range' using errcode = '22023';
  end if;
  for v_level in 1..3 loop
    v_counter := private.locked_counter(
      v_day, private.level_scope(v_level, p_caller_kind), private.level_subject(v_level, p_caller_id), v_minute);
    v_limit := private.limit_of(v_counter.scope, v_counter.subject);
    if v_level = 1 then
      v_limit.microusd_per_day := least(v_limit.microusd_per_day, p_caller_microusd_per_day);
      v_own_counter := v_counter;
      v_own_limit := v_limit;
      -- Asked again, because the answer was lost: under the caller's lock nobody else can be between here and the end.
      select * into v_held from public.reservations where id = p_reservation_id;
      if found then
        if (v_held.caller_kind, v_held.caller_id, v_held.state) <> (p_caller_kind, p_caller_id, 'held') then
          raise exception 'reserve: this reservation is over, or another caller''s' using errcode = '22023';
        end if;
        return private.standing(v_counter, v_limit, v_now) || '{"allowed": true}';
      end if;
    elsif v_level = 3 then
      v_limit.microusd_per_day := least(v_limit.microusd_per_day, p_total_microusd_per_day);
    end if;
    if v_counter.minute_requests + p_requests > v_limit.requests_per_minute then
      v_reason := 'rate_limited';
      v_retry_after_s := (private.standing(v_counter, v_limit, v_now) -> 'requests' ->> 'reset_s')::integer;
    elsif v_counter.reserved_microusd + v_counter.spent_microusd + p_microusd > v_limit.microusd_per_day then
      v_reason := 'budget_exceeded';
      v_retry_after_s := (private.standing(v_counter, v_limit, v_now) -> 'budget' ->> 'reset_s')::integer;
      if v_counter.spent_microusd + p_microusd <= v_limit.microusd_per_day then
        v_retry_after_s := least(v_retry_after_s, 10); -- others hold it, and will hardly use all of it
      end if;
    end if;
    if v_reason is not null then
      -- Who is refused leaves no row behind, or strangers could fill the table.
      delete from public.usage_counters
      where day = v_day and scope = v_own_counter.scope and subject = v_own_counter.subject
        and requests = 0 and reserved_microusd = 0 and spent_microusd = 0;
      return private.standing(v_own_counter, v_own_limit, v_now) || jsonb_build_object(
        'allowed', false, 'reason', v_reason, 'scope', v_counter.scope,
        'of', case when v_level = 1 then 'caller' else 'all' end, 'retry_after_s', v_retry_after_s);
    end if;
  end loop;
  for v_level in 1..3 loop
    update public.usage_counters set
      minute_requests = p_requests + case when minute < v_minute then 0 else minute_requests end,
      minute = greatest(minute, v_minute),
      requests = requests + p_requests,
      reserved_microusd = reserved_microusd + p_microusd
    where day = v_day and scope = private.level_scope(v_level, p_caller_kind)
      and subject = private.level_subject(v_level, p_caller_id);
  end loop;
  insert into public.reservations (id, caller_kind, caller_id, day, reserved_microusd, created_at, expires_at)
  values (p_reservation_id, p_caller_kind, p_caller_id, v_day, p_microusd, v_now, v_now + make_interval(secs => p_lifetime_s));
  v_own_counter.minute_requests := v_own_counter.minute_requests + p_requests;
  v_own_counter.reserved_microusd := v_own_counter.reserved_microusd + p_microusd;
  return private.standing(v_own_counter, v_own_limit, v_now) || '{"allowed": true}';
end
$$;
comment on function public.reserve is
  'Checks every limit and holds the worst case of a request, or says why not and when to come back. Repeatable by its id.';

create function public.settle(p_reservation_id uuid, p_actual_microusd bigint) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_held public.reservations;
  v_released bigint;
begin
  select * into v_held from public.reservations where id = p_reservation_id for update;
  if not found then
    return '{"settled": false}';
  elsif v_held.state = 'settled' then
    return jsonb_build_object('settled', true, 'again', true, 'actual_microusd', v_held.actual_microusd);
  end if;
  -- A price that nobody knows counts as the worst case. One that expired has given back what it held.
  p_actual_microusd := coalesce(p_actual_microusd, v_held.reserved_microusd);
  v_released := case when v_held.state = 'held' then v_held.reserved_microusd else 0 end;
  for v_level in 1..3 loop
    update public.usage_counters set
      reserved_microusd = reserved_microusd - v_released,
      spent_microusd = spent_microusd + p_actual_microusd
    where day = v_held.day and scope = private.level_scope(v_level, v_held.caller_kind)
      and subject = private.level_subject(v_level, v_held.caller_id);
  end loop;
  update public.reservations set state = 'settled', actual_microusd = p_actual_microusd, ended_at = private.now()
  where id = p_reservation_id;
  return jsonb_build_object('settled', true, 'again', false, 'actual_microusd', p_actual_microusd);
end
$$;
comment on function public.settle is
  'Ends a reservation with what was really paid (null: unknown, all of it). The first call counts, others change nothing.';

create function public.expire_reservations(p_limit integer default 1000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_ids uuid[];
  v_sum record;
begin
  select coalesce(array_agg(due.id), '{}') into v_ids from (
    select id from public.reservations where state = 'held' and expires_at <= private.now()
    order by expires_at limit p_limit for update skip locked
  ) as due;
  for v_sum in
    select held.day, private.level_scope(level, caller_kind) as scope, private.level_subject(level, caller_id) as subject,
      sum(reserved_microusd) as microusd
    from public.reservations as held cross join generate_series(1, 3) as level
    where held.id = any (v_ids)
    group by level, 1, 2, 3
    order by level, 1, 2, 3
  loop
    update public.usage_counters set reserved_microusd = reserved_microusd - v_sum.microusd
    where day = v_sum.day and scope = v_sum.scope and subject = v_sum.subject;
  end loop;
  update public.reservations set state = 'expired', ended_at = private.now() where id = any (v_ids);
  return cardinality(v_ids);
end
$$;
comment on function public.expire_reservations is
  'Gives back what was held for requests that never settled; returns how many. One that settles later still counts.';

create function public.own_usage(p_caller_kind text, p_caller_id uuid, p_days integer default 30) returns jsonb
language plpgsql security definer stable set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_today date := (v_now at time zone 'UTC')::date;
  v_counter public.usage_counters;
  v_days jsonb;
begin
  select * into v_counter from public.usage_counters
  where day = v_today and scope = p_caller_kind and subject = p_caller_id::text;
  if not found or v_counter.minute < date_trunc('minute', v_now) then
    v_counter.day := v_today;
    v_counter.minute := date_trunc('minute', v_now);
    v_counter.minute_requests := 0;
    v_counter.reserved_microusd := coalesce(v_counter.reserved_microusd, 0);
    v_counter.spent_microusd := coalesce(v_counter.spent_microusd, 0);
  end if;
  select coalesce(jsonb_agg(to_jsonb(per_day) order by per_day.day desc, per_day.provider), '[]') into v_days
  from (
    select (created_at at time zone 'UTC')::date as day, provider,
      count(distinct request_id) as requests, count(*) as calls,
      sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(cached_tokens) as cached_tokens,
      coalesce(sum(cost_microusd), 0) as cost_microusd,
      coalesce(sum(cached_saving_microusd), 0) as cached_saving_microusd,
      count(*) filter (where cost_microusd is null) as calls_of_unknown_cost
    from public.inference_events
    where user_id = p_caller_id and created_at >= (v_today - p_days + 1)::timestamp at time zone 'UTC'
    group by 1, 2
  ) as per_day;
  return private.standing(v_counter, private.limit_of(p_caller_kind, p_caller_id::text), v_now) || jsonb_build_object(
    'today', jsonb_build_object(
      'spent_microusd', v_counter.spent_microusd, 'reserved_microusd', v_counter.reserved_microusd),
    'days', v_days);
end
$$;
comment on function public.own_usage is 'A caller''s limits, what is left of them, and what it used per UTC day and provider.';

revoke all on function public.reserve, public.settle, public.expire_reservations, public.own_usage
  from public, anon, authenticated;
grant execute on function public.reserve, public.settle, public.expire_reservations, public.own_usage to service_role;
