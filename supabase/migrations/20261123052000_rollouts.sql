-- Rollouts that drive themselves (lib/control/rollout.py): the machine's row per gate, what it did, and what each user
-- met first, counted as events come in. A tick reads sums alone, so that it costs the same after a million events.
create table public.rollouts (
  gate text primary key check (length(gate) between 1 and 200),
  rollout_id text not null,
  status text not null check (status in ('idle', 'baseline', 'stage', 'hold', 'paused', 'rolled_back', 'done')),
  stage integer not null,
  share double precision not null check (share between 0 and 1),
  in_store double precision not null check (in_store between 0 and 1),
  since timestamptz not null,
  version bigint not null check (version > 0),
  reason text,
  -- {requests, error_rate, ttft|latency|cost: {threshold, cuts}}, frozen before anybody is treated.
  baseline jsonb,
  settled boolean not null,
  announced boolean not null,
  -- How this rollout goes, as the parameters were when it began.
  params jsonb not null,
  began_at timestamptz not null
);
comment on table public.rollouts is 'One row per gate, moved by compare-and-set on version.';

create table public.rollout_events (
  id bigint generated always as identity primary key,
  gate text not null,
  rollout_id text not null,
  version bigint not null,
  at timestamptz not null,
  kind text not null,
  status text not null,
  share double precision not null,
  reason text,
  words text not null,
  evidence jsonb not null,
  unique (gate, version)
);
comment on table public.rollout_events is
  'What each rollout did and on what evidence. Append-only: nobody has the right to change or delete a row.';

create table public.rollout_readings (
  rollout_id text not null,
  at timestamptz not null,
  share double precision not null,
  log_e jsonb not null,
  primary key (rollout_id, at)
);
comment on table public.rollout_readings is 'What each test said at each tick: natural logarithms of e-values, by test.';

-- The shares of gates that are driven from here, laid over the flags' specs. `over` is what the specs themselves said
-- then: once they say something else, somebody has set the gate by hand, and this row counts no more.
create table public.flag_shares (
  gate text primary key check (length(gate) between 1 and 200),
  share double precision not null check (share between 0 and 1),
  over double precision not null check (over between 0 and 1),
  at timestamptz not null
);
comment on table public.flag_shares is 'Shares of gates that are driven from here, laid over the specs.';

-- The control's requests before the first stage.
create table private.rollout_baseline (
  rollout_id text not null,
  request_id uuid not null,
  user_id uuid not null,
  failed boolean not null,
  ttft_ms double precision,
  latency_ms double precision,
  cost_microusd bigint,
  primary key (rollout_id, request_id)
);
-- Each user's first event of a kind; `seen` once in each share, the others (share -1) once in a rollout.
create table private.rollout_firsts (
  rollout_id text not null,
  what text not null,
  user_id uuid not null,
  share double precision not null,
  primary key (rollout_id, user_id, what, share)
);
create table private.rollout_counts (
  rollout_id text not null,
  what text not null,
  share double precision not null,
  treated boolean not null,
  bucket smallint not null,
  users bigint not null,
  primary key (rollout_id, what, share, treated, bucket)
);
comment on table private.rollout_counts is 'How many users had their first event of a kind, by the share then in force.';

alter table public.rollouts enable row level security;
alter table public.rollout_events enable row level security;
alter table public.rollout_readings enable row level security;
alter table public.flag_shares enable row level security;
alter table private.rollout_baseline enable row level security;
alter table private.rollout_firsts enable row level security;
alter table private.rollout_counts enable row level security;
revoke all on public.rollouts, public.rollout_events, public.rollout_readings, public.flag_shares
  from anon, authenticated, service_role;
grant select on public.rollouts, public.rollout_events, public.rollout_readings, public.flag_shares to service_role;

-- What the calls of one request made of it, for each rollout that is counting. Failed are requests whose first call
-- failed, though another may have saved them: or the router would hide a candidate that is down. What the caller did
-- wrong is nobody's failure.
create function private.rollout_requests(p_events jsonb)
returns table (
  rollout_id text, gate_status text, baseline jsonb, allowances jsonb, request_id uuid, user_id uuid,
  at timestamptz, share double precision, treated boolean, failed boolean,
  ttft_ms double precision, latency_ms double precision, cost_microusd bigint
)
language sql stable set search_path = ''
as $$
  with calls as (
    select r.rollout_id, r.status, r.baseline, r.params -> 'allowances' as allowances, e.*,
      e.outcome in ('error', 'timeout', 'interrupted') and coalesce(e.error_code, '') not in
        ('request_rejected', 'context_length_exceeded', 'content_refused') as failed,
      row_number() over (partition by e.request_id order by e.attempt) = 1 as is_first,
      row_number() over (partition by e.request_id order by e.attempt desc) = 1 as is_last,
      -- How long the caller had waited when this call began: for those before it that never spoke.
      coalesce(sum(e.latency_ms) filter (where e.ttft_ms is null and e.kind <> 'hedge')
        over (partition by e.request_id order by e.attempt rows between unbounded preceding and 1 preceding), 0)
        as waited_ms
    from jsonb_to_recordset(p_events) as e (
      created_at timestamptz, request_id uuid, attempt smallint, kind text, user_id uuid, outcome text,
      error_code text, ttft_ms double precision, latency_ms double precision, cost_microusd bigint,
      gate text, gate_arm text, rollout_share double precision)
    join public.rollouts r on r.gate = e.gate and r.status in ('baseline', 'stage', 'hold', 'paused')
    where e.user_id is not null and e.gate_arm in ('treatment', 'control') and e.rollout_share between 0 and 1
      and e.created_at >= r.began_at
  )
  select rollout_id, min(status), (array_agg(baseline))[1], (array_agg(allowances))[1], request_id,
    (array_agg(user_id))[1], min(created_at), min(rollout_share), bool_or(gate_arm = 'treatment'),
    bool_or(failed and (is_first or is_last)),
    (array_agg(waited_ms + ttft_ms order by attempt) filter (where ttft_ms is not null))[1],
    case when bool_or(outcome = 'ok') then
      greatest(max(latency_ms), sum(latency_ms) filter (where outcome <> 'cancelled')) end,
    case when bool_and(cost_microusd is not null) then sum(cost_microusd)::bigint end
  from calls group by rollout_id, request_id
$$;

create function private.count_for_rollouts(p_events jsonb) returns void
language plpgsql set search_path = ''
as $$
begin
  insert into private.rollout_baseline
  select rollout_id, request_id, user_id, failed, ttft_ms, latency_ms, cost_microusd
  from private.rollout_requests(p_events)
  where gate_status = 'baseline' and share = 0 and not treated
  on conflict do nothing;

  with requests as materialized (
    select r.*,
      case when treated then (allowances ->> 'ttft')::double precision else 1 end as ttft_allowance,
      case when treated then (allowances ->> 'latency')::double precision else 1 end as latency_allowance,
      case when treated then (allowances ->> 'cost')::double precision else 1 end as cost_allowance
    from private.rollout_requests(p_events) r
    where baseline is not null and share > 0
  ),
  facts as (
    select r.rollout_id, f.what, r.user_id, f.of_share, r.share, r.treated, f.bucket::smallint as bucket, r.at
    from requests r cross join lateral (values
      ('seen', r.share, 0, true),
      ('errors', -1, 0, r.failed),
      ('ttft', -1, 0, r.ttft_ms > (baseline #>> '{ttft,threshold}')::double precision * ttft_allowance),
      ('latency', -1, 0, r.latency_ms > (baseline #>> '{latency,threshold}')::double precision * latency_allowance),
      ('cost', -1, 0, r.cost_microusd > (baseline #>> '{cost,threshold}')::double precision * cost_allowance),
      ('ttft_rank', -1, width_bucket(r.ttft_ms / ttft_allowance,
        array(select jsonb_array_elements_text(baseline #> '{ttft,cuts}')::double precision)), r.ttft_ms is not null),
      ('latency_rank', -1, width_bucket(r.latency_ms / latency_allowance,
        array(select jsonb_array_elements_text(baseline #> '{latency,cuts}')::double precision)),
        r.latency_ms is not null)
    ) as f (what, of_share, bucket, applies)
    where f.applies
  ),
  first as (
    select distinct on (rollout_id, user_id, what, of_share) * from facts
    order by rollout_id, user_id, what, of_share, at
  ),
  counted as (
    insert into private.rollout_firsts
    select rollout_id, what, user_id, of_share from first
    on conflict do nothing
    returning *
  )
  insert into private.rollout_counts
  select f.rollout_id, f.what, f.share, f.treated, f.bucket, count(*)
  from counted c
  join first f on f.rollout_id = c.rollout_id and f.user_id = c.user_id and f.what = c.what and f.of_share = c.share
  group by 1, 2, 3, 4, 5
  -- In one order everywhere: or two batches would wait for each other.
  order by 1, 2, 3, 4, 5
  on conflict (rollout_id, what, share, treated, bucket) do update set users = rollout_counts.users + excluded.users;
end
$$;

create or replace function private.insert_events(p_events jsonb) returns bigint
language plpgsql set search_path = ''
as $$
declare
  v_defaults public.inference_events := jsonb_populate_record(null::public.inference_events, jsonb_build_object(
    'attempt', 1, 'kind', 'first', 'modality', 'text', 'input_tokens', 0, 'output_tokens', 0, 'cached_tokens', 0,
    'reasoning_tokens', 0, 'estimated', false, 'cold_start', false, 'metadata', '{}'::jsonb));
  v_events jsonb := p_events;
  v_inserted bigint;
  v_rolling boolean := exists (
    select from public.rollouts where status in ('baseline', 'stage', 'hold', 'paused'));
begin
  if v_rolling then
    select coalesce(jsonb_agg(
      case when r.rollout_id is null then e.event
      else e.event || jsonb_build_object('rollout_id', r.rollout_id) end), '[]')
    into v_events
    from jsonb_array_elements(p_events) as e (event)
    left join public.rollouts r
      on r.gate = e.event ->> 'gate' and r.status in ('baseline', 'stage', 'hold', 'paused')
      and (e.event ->> 'created_at')::timestamptz >= r.began_at;
  end if;
  insert into public.inference_events
  select * from jsonb_populate_recordset(v_defaults, v_events)
  on conflict (created_at, request_id, attempt) do nothing;
  get diagnostics v_inserted = row_count;
  if v_rolling then
    perform private.count_for_rollouts(v_events);
  end if;
  return v_inserted;
end
$$;

create function private.rollout_row(p_row public.rollouts) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(p_row) || jsonb_build_object('since', extract(epoch from p_row.since))
$$;

create function private.frozen(p_values double precision[], p_quantile double precision) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_build_object(
    'threshold', percentile_cont(p_quantile) within group (order by value),
    'cuts', to_jsonb(percentile_cont(array(select k / 16.0::double precision from generate_series(1, 15) k))
      within group (order by value)))
  from unnest(p_values) as value where value is not null
$$;

-- All that a tick is told about a gate, in one reading of the database.
create function public.look_at_rollout(
  p_gate text, p_baseline_requests integer default 500, p_hourly boolean default false
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_row public.rollouts;
  v_baseline jsonb;
begin
  select * into v_row from public.rollouts where gate = p_gate;
  if v_row.status in ('baseline', 'paused') and v_row.baseline is null
    and (select count(*) from private.rollout_baseline where rollout_id = v_row.rollout_id) >= p_baseline_requests
  then
    select jsonb_build_object(
      'requests', count(*),
      'error_rate', count(distinct user_id) filter (where failed) / count(distinct user_id)::double precision,
      'ttft', private.frozen(array_agg(ttft_ms), 0.95),
      'latency', private.frozen(array_agg(latency_ms), 0.95),
      'cost', private.frozen(array_agg(cost_microusd::double precision), 0.9))
    into v_baseline
    from private.rollout_baseline where rollout_id = v_row.rollout_id;
  end if;
  return jsonb_build_object(
    'row', case when v_row.gate is null then null else private.rollout_row(v_row) end,
    'baseline', v_baseline,
    'counts', (
      select coalesce(jsonb_agg(jsonb_build_array(what, share, treated, bucket, users)), '[]')
      from private.rollout_counts where rollout_id = v_row.rollout_id),
    'last_event_at', (
      select extract(epoch from max(at)) from (
        select max(created_at) as at from public.inference_events
        where gate = p_gate and gate_arm = 'control' and created_at > v_now - interval '1 hour'
        union all
        select max(created_at) from public.inference_events
        where gate = p_gate and gate_arm = 'treatment' and created_at > v_now - interval '1 hour') seen),
    'credentials_rejected', exists (
      select from public.inference_events
      where gate = p_gate and gate_arm = 'treatment' and created_at > v_now - interval '5 minutes'
        and rollout_id = v_row.rollout_id and error_code = 'credentials_rejected'),
    'spent_microusd', case when p_hourly then (
      select coalesce(sum(cost_microusd), 0) from public.inference_events
      where gate = p_gate and gate_arm = 'treatment' and created_at > v_now - interval '1 hour') else 0 end);
end
$$;
comment on function public.look_at_rollout is
  'What a tick of a gate''s rollout needs: {row, baseline, counts, last_event_at, credentials_rejected, spent_microusd}.';

create function public.save_rollout(
  p_row jsonb, p_kind text, p_words text, p_evidence jsonb
) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_new public.rollouts := jsonb_populate_record(null::public.rollouts,
    p_row || jsonb_build_object('since', to_timestamp((p_row ->> 'since')::double precision)));
begin
  if p_kind = 'started' then
    v_new.began_at := v_now;
  end if;
  if v_new.version = 1 then
    insert into public.rollouts select v_new.* on conflict do nothing;
  else
    update public.rollouts r set
      rollout_id = v_new.rollout_id, status = v_new.status, stage = v_new.stage, share = v_new.share,
      in_store = v_new.in_store, since = v_new.since, version = v_new.version, reason = v_new.reason,
      baseline = v_new.baseline, settled = v_new.settled, announced = v_new.announced, params = v_new.params,
      began_at = coalesce(v_new.began_at, r.began_at)
    where r.gate = v_new.gate and r.version = v_new.version - 1;
  end if;
  if not found then
    return false;
  end if;
  insert into public.rollout_events (gate, rollout_id, version, at, kind, status, share, reason, words, evidence)
  values (v_new.gate, v_new.rollout_id, v_new.version, v_now, p_kind, v_new.status, v_new.share, v_new.reason, p_words,
    p_evidence);
  return true;
end
$$;
comment on function public.save_rollout is
  'Replaces a rollout''s row if its version is one below, and appends what happened. False: somebody else was faster.';

create function public.keep_rollout_reading(p_rollout_id text, p_share double precision, p_log_e jsonb) returns void
language sql security definer set search_path = ''
as $$
  insert into public.rollout_readings values (p_rollout_id, private.now(), p_share, p_log_e) on conflict do nothing
$$;

-- Of readings, five hundred at most: evenly over the rollout's life, the newest always.
create function public.rollout_history(p_from timestamptz, p_to timestamptz) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    'rollouts', (
      select coalesce(jsonb_agg(private.rollout_row(r) || jsonb_build_object('readings', (
        select coalesce(jsonb_agg(jsonb_build_object('at', at, 'share', share, 'log_e', log_e) order by at), '[]')
        from (
          select *, row_number() over (order by at desc) as n, count(*) over () as of
          from public.rollout_readings where rollout_id = r.rollout_id) numbered
        where (n - 1) % (1 + of / 500) = 0)) order by r.gate), '[]')
      from public.rollouts r),
    'events', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'at', at, 'gate', gate, 'rollout_id', rollout_id, 'kind', kind, 'status', status, 'share', share,
        'reason', reason, 'words', words) order by id), '[]')
      from (
        select * from public.rollout_events where at >= p_from and at < p_to and kind <> 'noted'
        order by id desc limit 1000) shown))
$$;
comment on function public.rollout_history is 'Every gate''s rollout with what its tests said over time, and what happened.';

-- For a forecast: who the gate would be asked for, and what they meet now. Of the last seven days.
create function public.rollout_traffic(p_experiment text, p_arm text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  with calls as (
    select * from public.inference_calls(private.now() - interval '7 days', private.now())
    where experiment = p_experiment and arm = p_arm and user_id is not null
  ),
  requests as (
    select c.*, row_number() over (partition by user_id order by created_at) = 1 as is_new
    from calls c where is_answer
  )
  select jsonb_build_object(
    'users', count(*) filter (where is_new),
    'days', greatest(extract(epoch from private.now() - min(created_at)) / 86400, 1.0 / 24),
    'baseline', case when count(*) >= 50 then jsonb_build_object(
      'requests', count(*),
      'error_rate', count(distinct user_id) filter (where request_outcome in ('error', 'timeout', 'interrupted'))
        / count(distinct user_id)::double precision,
      'ttft', private.frozen(array_agg(ttft_ms), 0.95),
      'latency', private.frozen(array_agg(latency_ms), 0.95),
      'cost', private.frozen(array_agg(cost_microusd::double precision), 0.9)) end)
  from requests
$$;
comment on function public.rollout_traffic is
  'Of an arm''s last seven days: {users (each once), days (that there was traffic for), baseline or null for too little}.';

create function public.flag_shares() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_object_agg(gate, jsonb_build_object('share', share, 'over', over)), '{}') from public.flag_shares
$$;
comment on function public.flag_shares is 'Shares that are laid over the specs: {gate: {share, over}}.';

-- `p_over` is what the specs themselves say of the gate now.
create function public.set_flag_share(
  p_gate text, p_share double precision, p_over double precision, p_expected double precision default null,
  p_version bigint default null
) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_version bigint;
  v_held double precision;
begin
  -- The row's lock is what a rival's save waits for, so that the version still holds when the share is written.
  select version into v_version from public.rollouts where gate = p_gate for share;
  if p_version is not null and v_version is distinct from p_version then
    return false;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('flag share ' || p_gate, 0));
  select share into v_held from public.flag_shares where gate = p_gate and abs(over - p_over) < 1e-6;
  if p_expected is not null and abs(coalesce(v_held, p_over) - p_expected) > 1e-6 then
    return false;
  end if;
  insert into public.flag_shares values (p_gate, p_share, p_over, private.now())
  on conflict (gate) do update set share = excluded.share, over = excluded.over, at = excluded.at;
  return true;
end
$$;
comment on function public.set_flag_share is
  'Sets a gate''s share; false where it is not as expected, or the rollout has moved on from this version.';

revoke all on function public.look_at_rollout, public.save_rollout, public.keep_rollout_reading, public.rollout_history,
  public.rollout_traffic, public.flag_shares, public.set_flag_share from public, anon, authenticated;
grant execute on function public.look_at_rollout, public.save_rollout, public.keep_rollout_reading,
  public.rollout_history, public.rollout_traffic, public.flag_shares, public.set_flag_share to service_role;

-- Who is to tick now: true for one caller per time. Rollouts that are over are none of them.
create function public.due_rollouts(p_every_s integer default 0) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_gates jsonb := (
    select jsonb_agg(gate order by gate) from public.rollouts
    where status <> 'idle' and not (status = 'done' and announced)
      and not (status = 'rolled_back' and announced and settled));
begin
  if v_gates is null or (p_every_s > 0 and not public.take_turn('rollouts', p_every_s)) then
    return '[]';
  end if;
  return v_gates;
end
$$;
comment on function public.due_rollouts is 'The gates whose rollout has to be looked at; empty while another does it.';

create function public.trim_rollouts() returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
  v_gone bigint;
begin
  -- Who was counted matters only while counting goes on; the sums stay.
  delete from private.rollout_firsts f where not exists (
    select from public.rollouts r where r.rollout_id = f.rollout_id and r.status not in ('rolled_back', 'done'));
  get diagnostics v_gone = row_count;
  delete from private.rollout_baseline b where not exists (
    select from public.rollouts r where r.rollout_id = b.rollout_id and r.baseline is null);
  return v_gone;
end
$$;
comment on function public.trim_rollouts is 'Forgets who was counted for rollouts that are over.';

revoke all on function public.due_rollouts, public.trim_rollouts from public, anon, authenticated;
grant execute on function public.due_rollouts, public.trim_rollouts to service_role;

-- Who is removed is counted on, but by nobody's id.
create function private.forget_in_rollouts() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from private.rollout_firsts where rollout_id in (select rollout_id from public.rollouts) and user_id = new.id;
  delete from private.rollout_baseline where user_id = new.id;
  return null;
end
$$;
create trigger forget_in_rollouts after insert or update on private.removed_users
  for each row execute function private.forget_in_rollouts();
