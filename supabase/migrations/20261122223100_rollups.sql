-- The dashboard's numbers, added up once: five-minute cells of calls that are alike, and hours made of them. Quantiles
-- come from histograms whose buckets are a sixteenth of an octave wide: bucket = floor(16 * log2(value)), a quantile is
-- the geometric middle of its bucket, so its error is at most 2^(1/32) - 1 = 2.2 %.

-- The calls of one request, and the few that were not the first.
create index inference_events_request_idx on public.inference_events (request_id);
create index inference_events_later_idx on public.inference_events (created_at) where attempt > 1;

-- Operators see all, by a claim that only the server can write.
drop policy "own events" on public.inference_events;
create policy "own events, all for operators" on public.inference_events for select to authenticated
  using (user_id = (select auth.uid()) or ((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'operator');

create table public.inference_rollup_5m (
  bucket_start timestamptz not null,
  -- The key: '' where the event has null. `cause` is the error code of the call before, in the same request.
  provider text not null,
  model text not null,
  route text not null,
  experiment text not null,
  arm text not null,
  kind text not null,
  outcome text not null,
  error_code text not null,
  fallback_from text not null,
  cause text not null,
  calls bigint not null,
  -- Of these calls: the last of their request that went well, or else its last. What failed, failed the caller.
  requests bigint not null,
  failed bigint not null,
  -- Answers that another call had failed before; and calls that failed, but not their caller.
  rescued bigint not null,
  saved bigint not null,
  input_tokens bigint not null,
  output_tokens bigint not null,
  cached_tokens bigint not null,
  cost_microusd bigint not null,
  unpriced bigint not null,
  saving_microusd bigint not null,
  -- Milliseconds that answered requests took, failed calls included; to the first token of the call that answered;
  -- tokens per second after it. Each bucket with its count.
  latency_buckets smallint[] not null,
  latency_counts bigint[] not null,
  ttft_buckets smallint[] not null,
  ttft_counts bigint[] not null,
  speed_buckets smallint[] not null,
  speed_counts bigint[] not null,
  primary key (bucket_start, provider, model, route, experiment, arm, kind, outcome, error_code, fallback_from, cause)
);
comment on table public.inference_rollup_5m is
  'Calls that are alike, added up by five minutes. Histograms: bucket = floor(16 * log2(value)), with its count.';
create table public.inference_rollup_1h (like public.inference_rollup_5m including all);
comment on table public.inference_rollup_1h is 'The same by hour, for ranges of days.';

alter table public.inference_rollup_5m enable row level security;
alter table public.inference_rollup_1h enable row level security;
create policy "operators" on public.inference_rollup_5m for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'operator');
create policy "operators" on public.inference_rollup_1h for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'operator');
revoke all on public.inference_rollup_5m, public.inference_rollup_1h from anon, authenticated, service_role;
grant select on public.inference_rollup_5m, public.inference_rollup_1h to authenticated, service_role;

-- Values below a millionth, zero among them, share the lowest bucket.
create function public.log_bucket(p_value double precision) returns smallint
language sql immutable strict parallel safe set search_path = ''
as $$ select floor(16 * ln(greatest(p_value, 0.000001)) / ln(2::double precision))::smallint $$;
comment on function public.log_bucket is 'floor(16 * log2(value)): 16 buckets per octave.';

create function public.log_bucket_middle(p_bucket integer) returns double precision
language sql immutable strict parallel safe set search_path = ''
as $$ select power(2::double precision, (p_bucket + 0.5) / 16) $$;
comment on function public.log_bucket_middle is 'The geometric middle of a bucket, by which a quantile is told.';

-- One row per call from p_from to p_to with what its request made of it. The calls of a request are recorded together
-- when it ends, so others of it are looked for five minutes around.
create function public.inference_calls(p_from timestamptz, p_to timestamptz, p_user_id uuid default null)
returns table (
  created_at timestamptz, request_id uuid, attempt smallint, user_id uuid, provider text, model text, route text,
  experiment text, arm text, kind text, outcome text, error_code text, fallback_from text, cause text,
  is_answer boolean, request_outcome text, latency_ms double precision, ttft_ms double precision,
  speed double precision, input_tokens integer, output_tokens integer, cached_tokens integer, cost_microusd bigint,
  saving_microusd bigint
)
language plpgsql stable set search_path = ''
as $$
begin
  -- Planned for these very times: so it takes the partitions that they lie in, and locks no others.
  return query execute $query$
    with several as materialized (
      select distinct e.request_id from public.inference_events e
      where e.attempt > 1 and e.created_at >= $1 - interval '5 min' and e.created_at < $2 + interval '5 min'
        and ($3 is null or e.user_id = $3)
    ),
    together as (
      select e.created_at, e.request_id, e.attempt,
        lag(e.error_code) over in_order as cause,
        row_number() over by_worth = 1 as is_answer,
        first_value(e.outcome) over by_worth as request_outcome,
        -- One after the other they add up; a call that was overtaken ran beside the one that overtook it.
        greatest(
          max(e.latency_ms) over whole,
          sum(e.latency_ms) filter (where e.outcome <> 'cancelled') over whole) as latency_ms
      from several join public.inference_events e using (request_id)
      where e.created_at >= $1 - interval '5 min' and e.created_at < $2 + interval '5 min'
        and ($3 is null or e.user_id = $3)
      window
        whole as (partition by e.request_id),
        in_order as (partition by e.request_id order by e.attempt),
        by_worth as (partition by e.request_id order by (e.outcome = 'ok') desc, e.attempt desc)
    )
    select e.created_at, e.request_id, e.attempt, e.user_id, e.provider, e.model, e.route,
      coalesce(e.experiment, ''), coalesce(e.experiment_arm, ''), e.kind, e.outcome, coalesce(e.error_code, ''),
      coalesce(e.fallback_from, ''), coalesce(t.cause, ''),
      coalesce(t.is_answer, true), coalesce(t.request_outcome, e.outcome), coalesce(t.latency_ms, e.latency_ms),
      e.ttft_ms,
      e.output_tokens / nullif(e.latency_ms - e.ttft_ms, 0) * 1000,
      e.input_tokens, e.output_tokens, e.cached_tokens, e.cost_microusd, e.cached_saving_microusd
    from public.inference_events e
    left join together t
      on t.request_id = e.request_id and t.attempt = e.attempt and t.created_at = e.created_at
    where e.created_at >= $1 and e.created_at < $2 and ($3 is null or e.user_id = $3)
  $query$ using p_from, p_to, p_user_id;
end
$$;
comment on function public.inference_calls is
  'Calls with what their request made of them: whether each was its answer, and how long the request took in all.';

-- The same added up to cells. The histograms are not condensed yet: one entry per call. log_bucket() is written out: a
-- function with a search_path of its own can't be inlined, and three calls per event are most of the work.
create function public.inference_cells(
  p_from timestamptz, p_to timestamptz, p_step interval, p_user_id uuid default null
) returns setof public.inference_rollup_5m
language sql stable set search_path = ''
as $$
  select date_bin(p_step, created_at, '2000-01-01T00:00:00Z'),
    provider, model, route, experiment, arm, kind, outcome, error_code, fallback_from, cause,
    count(*),
    count(*) filter (where is_answer),
    count(*) filter (where is_answer and outcome in ('error', 'timeout', 'interrupted')),
    count(*) filter (where is_answer and outcome = 'ok' and kind <> 'hedge' and kind <> 'repair' and attempt > 1),
    count(*) filter (where outcome in ('error', 'timeout', 'interrupted') and request_outcome = 'ok'),
    sum(input_tokens), sum(output_tokens), sum(cached_tokens),
    coalesce(sum(cost_microusd), 0), count(*) filter (where cost_microusd is null), coalesce(sum(saving_microusd), 0),
    coalesce(array_agg(floor(16 * ln(greatest(latency_ms, 0.000001)) / ln(2::double precision))::smallint)
      filter (where is_answer and outcome = 'ok'), '{}'),
    array_fill(1::bigint, array[count(*) filter (where is_answer and outcome = 'ok')::integer]),
    coalesce(array_agg(floor(16 * ln(greatest(ttft_ms, 0.000001)) / ln(2::double precision))::smallint)
      filter (where is_answer and outcome = 'ok' and ttft_ms is not null), '{}'),
    array_fill(1::bigint,
      array[count(*) filter (where is_answer and outcome = 'ok' and ttft_ms is not null)::integer]),
    coalesce(array_agg(floor(16 * ln(greatest(speed, 0.000001)) / ln(2::double precision))::smallint)
      filter (where is_answer and outcome = 'ok' and speed > 0), '{}'),
    array_fill(1::bigint, array[count(*) filter (where is_answer and outcome = 'ok' and speed > 0)::integer])
  from public.inference_calls(p_from, p_to, p_user_id)
  group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
$$;
comment on function public.inference_cells is 'Rows of the rollup, counted from the events themselves.';

-- Which windows have to be added up (again). A mark is committed together with its events: whoever removes it sees
-- them. Not unique by window, so that nobody waits for anybody.
create table private.rollup_due (
  id bigint generated always as identity primary key,
  bucket_start timestamptz not null
);
alter table private.rollup_due enable row level security;
comment on table private.rollup_due is 'Windows with events that the rollup does not have yet; several marks are one.';

create table private.rollup_state (
  name text primary key,
  rolled_at timestamptz not null
);
alter table private.rollup_state enable row level security;
comment on table private.rollup_state is 'When a rollup was last brought up to date.';
insert into private.rollup_state values ('inference', '-infinity');

create function private.mark_rollup_due() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_request_id uuid;
  v_at timestamptz;
begin
  insert into private.rollup_due (bucket_start)
  select distinct date_bin(interval '5 min', created_at, '2000-01-01T00:00:00Z') from fresh;
  -- A call that comes apart from its request's others changes what these were. Looked for only where there is one: the
  -- look takes a lock on the partitions around.
  for v_request_id, v_at in
    select request_id, min(created_at) from fresh group by 1 having count(*) < max(attempt)
  loop
    insert into private.rollup_due (bucket_start)
    select distinct date_bin(interval '5 min', created_at, '2000-01-01T00:00:00Z') from public.inference_events
    where request_id = v_request_id
      and created_at >= v_at - interval '5 min' and created_at < v_at + interval '5 min';
  end loop;
  return null;
end
$$;
create trigger inference_events_rollup_due after insert on public.inference_events
  referencing new table as fresh for each statement execute function private.mark_rollup_due();
insert into private.rollup_due (bucket_start)
select distinct date_bin(interval '5 min', created_at, '2000-01-01T00:00:00Z') from public.inference_events;

-- The same row with each bucket once.
create function private.condensed(p_cell public.inference_rollup_5m) returns public.inference_rollup_5m
language plpgsql immutable set search_path = ''
as $$
begin
  select coalesce(array_agg(bucket order by bucket), '{}'), coalesce(array_agg(n order by bucket), '{}')
  into p_cell.latency_buckets, p_cell.latency_counts
  from (select bucket, sum(n)::bigint as n from unnest(p_cell.latency_buckets, p_cell.latency_counts) as entry (bucket, n)
        group by bucket) as summed;
  select coalesce(array_agg(bucket order by bucket), '{}'), coalesce(array_agg(n order by bucket), '{}')
  into p_cell.ttft_buckets, p_cell.ttft_counts
  from (select bucket, sum(n)::bigint as n from unnest(p_cell.ttft_buckets, p_cell.ttft_counts) as entry (bucket, n)
        group by bucket) as summed;
  select coalesce(array_agg(bucket order by bucket), '{}'), coalesce(array_agg(n order by bucket), '{}')
  into p_cell.speed_buckets, p_cell.speed_counts
  from (select bucket, sum(n)::bigint as n from unnest(p_cell.speed_buckets, p_cell.speed_counts) as entry (bucket, n)
        group by bucket) as summed;
  return p_cell;
end
$$;

create function private.roll_up_window(p_start timestamptz) returns void
language plpgsql set search_path = ''
as $$
begin
  delete from public.inference_rollup_5m where bucket_start = p_start;
  insert into public.inference_rollup_5m
  select condensed.*
  from public.inference_cells(p_start, p_start + interval '5 min', interval '5 min') as cell,
    private.condensed(cell) as condensed;
end
$$;

create function private.roll_up_hour(p_start timestamptz) returns void
language plpgsql set search_path = ''
as $$
begin
  delete from public.inference_rollup_1h where bucket_start = p_start;
  insert into public.inference_rollup_1h
  select condensed.* from (
    select row(p_start, provider, model, route, experiment, arm, kind, outcome, error_code, fallback_from, cause,
      calls, requests, failed, rescued, saved, input_tokens, output_tokens, cached_tokens, cost_microusd, unpriced,
      saving_microusd,
      array(select entry from unnest(cells) as cell, unnest(cell.latency_buckets) as entry),
      array(select entry from unnest(cells) as cell, unnest(cell.latency_counts) as entry),
      array(select entry from unnest(cells) as cell, unnest(cell.ttft_buckets) as entry),
      array(select entry from unnest(cells) as cell, unnest(cell.ttft_counts) as entry),
      array(select entry from unnest(cells) as cell, unnest(cell.speed_buckets) as entry),
      array(select entry from unnest(cells) as cell, unnest(cell.speed_counts) as entry)
    )::public.inference_rollup_5m as hour
    from (
      select provider, model, route, experiment, arm, kind, outcome, error_code, fallback_from, cause,
        sum(calls) as calls, sum(requests) as requests, sum(failed) as failed, sum(rescued) as rescued,
        sum(saved) as saved, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens,
        sum(cached_tokens) as cached_tokens, sum(cost_microusd) as cost_microusd, sum(unpriced) as unpriced,
        sum(saving_microusd) as saving_microusd, array_agg(fine) as cells
      from public.inference_rollup_5m as fine
      where bucket_start >= p_start and bucket_start < p_start + interval '1 hour'
      group by provider, model, route, experiment, arm, kind, outcome, error_code, fallback_from, cause
    ) as alike
  ) as hours, private.condensed(hour) as condensed;
end
$$;

-- Bring the rollup up to date: at most p_windows of the windows that are due, the latest first. What was rolled up
-- before is made anew from its events, so late ones are in it, and doing it again changes nothing. Instances that do it
-- beside their traffic say how fresh is fresh enough, and leave it to pg_cron where there is one.
create function public.rollup_inference(p_windows integer default 100, p_unless_within interval default null)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  -- Of older windows the events are gone, or go soon: what was added up stays.
  v_oldest timestamptz := (private.today() - private.keep('inference_events'))::timestamp at time zone 'UTC';
  v_due timestamptz[];
  v_start timestamptz;
  v_left integer;
begin
  if p_unless_within is not null then
    if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
      return '{"rolled": 0, "left": 0, "scheduled": true}';
    elsif exists (select from private.rollup_state where name = 'inference' and rolled_at > v_now - p_unless_within) then
      return '{"rolled": 0, "left": 0}';
    end if;
  end if;
  if not pg_try_advisory_xact_lock(hashtextextended('rollup_inference', 0)) then
    return '{"rolled": 0, "left": 0, "elsewhere": true}';
  end if;
  delete from private.rollup_due where bucket_start < v_oldest;
  with taken as (
    delete from private.rollup_due where bucket_start in (
      select distinct bucket_start from private.rollup_due order by bucket_start desc limit p_windows)
    returning bucket_start
  )
  select coalesce(array_agg(distinct bucket_start), '{}') into v_due from taken;
  -- From here on each statement sees the events of every mark that was removed.
  foreach v_start in array v_due loop
    perform private.roll_up_window(v_start);
  end loop;
  for v_start in select distinct date_trunc('hour', due, 'UTC') from unnest(v_due) as due loop
    perform private.roll_up_hour(v_start);
  end loop;
  update private.rollup_state set rolled_at = v_now where name = 'inference';
  select count(distinct bucket_start) into v_left from private.rollup_due;
  return jsonb_build_object('rolled', cardinality(v_due), 'left', v_left);
end
$$;
comment on function public.rollup_inference is
  'Adds up what is due, the latest windows first, late events included; says how many windows were done and are left.';

revoke all on function public.log_bucket, public.log_bucket_middle, public.inference_calls, public.inference_cells,
  public.rollup_inference from public, anon, authenticated;
grant execute on function public.log_bucket, public.log_bucket_middle, public.inference_calls, public.inference_cells
  to authenticated, service_role;
grant execute on function public.rollup_inference to service_role;

do $$
begin
  if exists (select from pg_extension where extname = 'pg_cron') then
    perform cron.schedule('blueprint-rollup', '*/5 * * * *', 'select public.rollup_inference()');
  end if;
end
$$;
