-- Numbers that are no number pass `>= 0`: NaN counts as the greatest.
create table public.inference_events (
  created_at timestamptz not null,
  request_id uuid not null,
  attempt smallint not null check (attempt > 0),
  id uuid not null,
  kind text not null,
  user_id uuid,
  caller_kind text not null check (caller_kind in ('user', 'guest', 'key', 'system')),
  route text not null,
  modality text not null check (modality in ('text', 'embedding', 'image', 'speech', 'video')),
  provider text not null,
  model text not null,
  outcome text not null check (outcome in ('ok', 'error', 'cancelled', 'timeout', 'interrupted')),
  error_code text,
  finish_reason text,
  ttft_ms double precision check (ttft_ms >= 0 and ttft_ms < 'infinity'),
  latency_ms double precision not null check (latency_ms >= 0 and latency_ms < 'infinity'),
  input_tokens integer not null check (input_tokens >= 0),
  output_tokens integer not null check (output_tokens >= 0),
  cached_tokens integer not null check (cached_tokens >= 0),
  reasoning_tokens integer not null check (reasoning_tokens >= 0),
  units double precision check (units >= 0 and units < 'infinity'),
  unit text check (unit in ('characters', 'images', 'seconds')),
  estimated boolean not null,
  cost_microusd bigint check (cost_microusd >= 0),
  cached_saving_microusd bigint check (cached_saving_microusd >= 0),
  fallback_from text,
  experiment text,
  experiment_arm text,
  gate text,
  gate_arm text,
  rollout_id text,
  rollout_share double precision check (rollout_share between 0 and 1),
  config_version text,
  cold_start boolean not null,
  region text,
  deployment text,
  metadata jsonb not null,
  -- A batch that is sent again changes nothing: created_at is the event's own, never the clock of the insert.
  -- No identity column: a partition made apart could not be attached.
  primary key (created_at, request_id, attempt),
  check ((units is null) = (unit is null))
) partition by range (created_at);

comment on table public.inference_events is
  'One row per call to a provider, in partitions by UTC day. cost_microusd is null where the price is unknown.';
create index inference_events_provider_idx on public.inference_events (provider, created_at desc);
create index inference_events_user_idx on public.inference_events (user_id, created_at desc) where user_id is not null;
create index inference_events_experiment_idx on public.inference_events (experiment, experiment_arm, created_at desc)
  where experiment is not null;
create index inference_events_gate_idx on public.inference_events (gate, gate_arm, created_at desc)
  where gate is not null;

alter table public.inference_events enable row level security;
create policy "own events" on public.inference_events for select to authenticated
  using (user_id = (select auth.uid()));
revoke all on public.inference_events from anon, authenticated, service_role;
grant select on public.inference_events to authenticated, service_role;

-- A net for days without a partition. It should be empty: ensure_event_partitions() says how many rows it holds.
create table public.inference_events_default partition of public.inference_events default;
alter table public.inference_events_default enable row level security;
revoke all on public.inference_events_default from anon, authenticated, service_role;

insert into private.retention values ('inference_events', interval '90 days');

create function private.event_partition(p_day date) returns text
language sql stable set search_path = ''
as $$ select 'inference_events_' || to_char(p_day, 'YYYYMMDD') $$;

-- Make the partition of a day and move what fell into the net meanwhile; return how many rows that were.
-- Made apart and then attached: nobody who writes into another day has to wait.
create function private.add_event_partition(p_day date) returns bigint
language plpgsql set search_path = '' set lock_timeout = '3s'
as $$
declare
  v_name text := private.event_partition(p_day);
  v_from timestamptz := p_day::timestamp at time zone 'UTC';
  v_to timestamptz := (p_day + 1)::timestamp at time zone 'UTC';
  v_moved bigint;
begin
  execute format('create table public.%I (like public.inference_events including all)', v_name);
  execute format('alter table public.%I enable row level security', v_name);
  execute format('revoke all on public.%I from anon, authenticated, service_role', v_name);
  -- Or a row that comes in between the move and the attachment would forbid the latter.
  lock table public.inference_events_default in access exclusive mode;
  execute format(
    'with moved as (delete from public.inference_events_default where created_at >= %L and created_at < %L returning *)
     insert into public.%I select * from moved', v_from, v_to, v_name);
  get diagnostics v_moved = row_count;
  execute format(
    'alter table public.inference_events attach partition public.%I for values from (%L) to (%L)', v_name, v_from, v_to);
  return v_moved;
end
$$;

create function public.ensure_event_partitions(p_days_ahead integer default 14) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_today date := private.today();
  v_oldest date := v_today - (select keep from private.retention where table_name = 'inference_events');
  v_day date;
  v_made text[] := '{}';
  v_moved bigint := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('ensure_event_partitions', 0));
  for v_day in
    select day::date from generate_series(v_today - 1, v_today + p_days_ahead, interval '1 day') as day
    union
    select (created_at at time zone 'UTC')::date from public.inference_events_default
    where created_at >= v_oldest::timestamp at time zone 'UTC'
      and created_at < (v_today + p_days_ahead + 1)::timestamp at time zone 'UTC'
    order by 1
  loop
    if to_regclass('public.' || private.event_partition(v_day)) is null then
      v_moved := v_moved + private.add_event_partition(v_day);
      v_made := v_made || v_day::text;
    end if;
  end loop;
  return jsonb_build_object(
    'made', v_made, 'moved', v_moved, 'left_in_default', (select count(*) from public.inference_events_default));
end
$$;
comment on function public.ensure_event_partitions is
  'Makes the partitions of the days to come, and of days that were missed. left_in_default should be 0.';

create function private.drop_event_partitions(p_before date) returns bigint
language plpgsql set search_path = '' set lock_timeout = '3s'
as $$
declare
  v_name text;
  v_dropped bigint := 0;
begin
  for v_name in
    select c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.inference_events'::regclass
      and c.relname ~ '^inference_events_\d{8}$' and c.relname < private.event_partition(p_before)
    order by c.relname
  loop
    execute format('drop table public.%I', v_name);
    v_dropped := v_dropped + 1;
  end loop;
  delete from public.inference_events_default where created_at < p_before::timestamp at time zone 'UTC';
  return v_dropped;
end
$$;

create function private.insert_events(p_events jsonb) returns bigint
language plpgsql set search_path = ''
as $$
declare
  v_defaults public.inference_events := jsonb_populate_record(null::public.inference_events, jsonb_build_object(
    'attempt', 1, 'kind', 'first', 'modality', 'text', 'input_tokens', 0, 'output_tokens', 0, 'cached_tokens', 0,
    'reasoning_tokens', 0, 'estimated', false, 'cold_start', false, 'metadata', '{}'::jsonb));
  v_inserted bigint;
begin
  insert into public.inference_events
  select * from jsonb_populate_recordset(v_defaults, p_events)
  on conflict (created_at, request_id, attempt) do nothing;
  get diagnostics v_inserted = row_count;
  return v_inserted;
end
$$;

create function public.record_events(p_events jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_count integer := jsonb_array_length(p_events);
  v_inserted bigint := 0;
  v_rejected jsonb := '[]';
  v_event jsonb;
  v_index bigint;
  v_constraint text;
begin
  begin
    v_inserted := private.insert_events(p_events);
  exception when data_exception or integrity_constraint_violation then
    -- One bad event must not cost the others. Its text is not repeated: it may hold anything.
    for v_event, v_index in select value, ordinality - 1 from jsonb_array_elements(p_events) with ordinality loop
      begin
        v_inserted := v_inserted + private.insert_events(jsonb_build_array(v_event));
      exception when data_exception or integrity_constraint_violation then
        get stacked diagnostics v_constraint = constraint_name;
        v_rejected := v_rejected || jsonb_build_object('index', v_index, 'code', sqlstate, 'constraint', v_constraint);
      end;
    end loop;
  end;
  return jsonb_build_object(
    'inserted', v_inserted,
    'duplicates', v_count - v_inserted - jsonb_array_length(v_rejected),
    'rejected', v_rejected);
end
$$;
comment on function public.record_events is
  'Inserts a JSON array of events (keys are the columns; others are ignored). Those already there count as duplicates.';

revoke all on function public.ensure_event_partitions, public.record_events from public, anon, authenticated;
grant execute on function public.ensure_event_partitions, public.record_events to service_role;

select public.ensure_event_partitions();
