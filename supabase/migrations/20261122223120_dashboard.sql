-- The panels of the dashboard, each a function: rows as JSON for a period, in steps, with filters (null: all). They run
-- with the caller's rights. Without p_user_id they read the rollups, which are the operators'; with it, that caller's own
-- events. Periods of an hour or less are counted from the events, so that they are up to date.

create function public.utc_text(p_at timestamptz) returns text
language sql immutable strict parallel safe set search_path = ''
as $$ select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;
comment on function public.utc_text is 'A moment as ISO 8601 in UTC, whatever the session''s time zone is.';

-- With a step: cells to be binned by it. Without: cells of the whole period, the fewest that there are.
create function public.dashboard_cells(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text, p_model text, p_route text, p_arm text,
  p_user_id uuid
) returns setof public.inference_rollup_5m
language plpgsql stable set search_path = ''
as $$
declare
  -- From here to there by hours.
  v_from timestamptz := p_to;
  v_to timestamptz := p_to;
begin
  if p_user_id is not null or p_to - p_from <= interval '1 hour' then
    return query select * from public.inference_cells(p_from, p_to, coalesce(p_step, p_to - p_from), p_user_id) as c
      where (p_provider is null or c.provider = p_provider) and (p_model is null or c.model = p_model)
        and (p_route is null or c.route = p_route) and (p_arm is null or c.arm = p_arm);
    return;
  end if;
  if p_step is null or p_step >= interval '1 hour' then
    v_from := date_bin(interval '1 hour', p_from + interval '59 min 59.999999 s', '2000-01-01T00:00:00Z');
    v_to := date_bin(interval '1 hour', p_to, '2000-01-01T00:00:00Z');
  end if;
  return query
    select * from public.inference_rollup_1h as c
    where c.bucket_start >= v_from and c.bucket_start < v_to
      and (p_provider is null or c.provider = p_provider) and (p_model is null or c.model = p_model)
      and (p_route is null or c.route = p_route) and (p_arm is null or c.arm = p_arm);
  return query
    select * from public.inference_rollup_5m as c
    where (c.bucket_start >= p_from and c.bucket_start < v_from or c.bucket_start >= v_to and c.bucket_start < p_to)
      and (p_provider is null or c.provider = p_provider) and (p_model is null or c.model = p_model)
      and (p_route is null or c.route = p_route) and (p_arm is null or c.arm = p_arm);
end
$$;
comment on function public.dashboard_cells is
  'The cells that a panel adds up: from the rollups, or from the caller''s own events.';

create function public.dashboard_totals(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text, p_model text, p_route text, p_arm text,
  p_user_id uuid
) returns jsonb
language sql stable set search_path = ''
as $$
  with cells as materialized (
    select * from public.dashboard_cells(p_from, p_to, null, p_provider, p_model, p_route, p_arm, p_user_id)
  ),
  entries as (
    select 'latency' as measure, e.bucket, sum(e.n) as n
    from cells c, unnest(c.latency_buckets, c.latency_counts) as e (bucket, n) group by 2
    union all
    select 'ttft', e.bucket, sum(e.n) from cells c, unnest(c.ttft_buckets, c.ttft_counts) as e (bucket, n) group by 2
    union all
    select 'speed', e.bucket, sum(e.n) from cells c, unnest(c.speed_buckets, c.speed_counts) as e (bucket, n) group by 2
  ),
  ranked as (
    select measure, bucket, sum(n) over (partition by measure order by bucket) as upto,
      sum(n) over (partition by measure) as total
    from entries
  ),
  quantiles as (
    select
      min(bucket) filter (where measure = 'ttft' and upto >= ceil(0.5 * total)) as ttft,
      min(bucket) filter (where measure = 'latency' and upto >= ceil(0.95 * total)) as latency,
      min(bucket) filter (where measure = 'speed' and upto >= ceil(0.5 * total)) as speed
    from ranked
  ),
  sums as (
    select coalesce(sum(requests), 0) as requests, coalesce(sum(failed), 0) as failed,
      coalesce(sum(rescued), 0) as rescued, coalesce(sum(calls), 0) as calls,
      coalesce(sum(cost_microusd), 0) as cost, coalesce(sum(unpriced), 0) as unpriced,
      coalesce(sum(output_tokens), 0) as output_tokens
    from cells
  )
  select jsonb_build_object(
    'requests', requests,
    'calls', calls,
    'failed', failed,
    'error_rate', round(failed / nullif(requests, 0), 6),
    'rescued', rescued,
    'rescued_rate', round(rescued / nullif(requests, 0), 6),
    'ttft_p50_ms', round(public.log_bucket_middle(quantiles.ttft)::numeric, 2),
    'latency_p95_ms', round(public.log_bucket_middle(quantiles.latency)::numeric, 2),
    'tokens_per_second', round(public.log_bucket_middle(quantiles.speed)::numeric, 2),
    'output_tokens', output_tokens,
    'cost_microusd', cost,
    'cost_per_1k_requests_microusd', round(cost * 1000 / nullif(requests, 0)),
    'unpriced', unpriced)
  from sums, quantiles
$$;
comment on function public.dashboard_totals is 'The numbers of a whole period.';

create function public.panel_tiles(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_agg(jsonb_build_object('metric', now.key, 'value', now.value, 'previous', before.value))
  from jsonb_each(
      public.dashboard_totals(p_from, p_to, p_step, p_provider, p_model, p_route, p_arm, p_user_id)) as now
    join jsonb_each(public.dashboard_totals(
      p_from - (p_to - p_from), p_from, p_step, p_provider, p_model, p_route, p_arm, p_user_id)) as before using (key)
$$;
comment on function public.panel_tiles is 'The numbers of a period beside those of the one before, of the same length.';

create function public.panel_requests(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('at', public.utc_text(at), 'provider', provider, 'requests', requests,
    'failed', failed, 'rescued', rescued, 'calls', calls, 'failed_calls', failed_calls) order by at, provider), '[]')
  from (
    select date_bin(p_step, bucket_start, '2000-01-01T00:00:00Z') as at, provider, sum(requests) as requests,
      sum(failed) as failed, sum(rescued) as rescued, sum(calls) as calls,
      coalesce(sum(calls) filter (where outcome in ('error', 'timeout', 'interrupted')), 0) as failed_calls
    from public.dashboard_cells(p_from, p_to, p_step, p_provider, p_model, p_route, p_arm, p_user_id)
    group by 1, 2
  ) as bins
$$;
comment on function public.panel_requests is 'Requests over time by the provider whose call was their last word.';

create function public.panel_latency(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  with entries as (
    select date_bin(p_step, c.bucket_start, '2000-01-01T00:00:00Z') as at, e.bucket, sum(e.n) as n
    from public.dashboard_cells(p_from, p_to, p_step, p_provider, p_model, p_route, p_arm, p_user_id) as c,
      unnest(c.latency_buckets, c.latency_counts) as e (bucket, n)
    group by 1, 2
  ),
  ranked as (
    select at, bucket, sum(n) over (partition by at order by bucket) as upto, sum(n) over (partition by at) as total
    from entries
  )
  select coalesce(jsonb_agg(jsonb_build_object('at', public.utc_text(at), 'requests', total,
    'p50_ms', round(public.log_bucket_middle(p50)::numeric, 2),
    'p95_ms', round(public.log_bucket_middle(p95)::numeric, 2),
    'p99_ms', round(public.log_bucket_middle(p99)::numeric, 2)) order by at), '[]')
  from (
    select at, max(total) as total, min(bucket) filter (where upto >= ceil(0.5 * total)) as p50,
      min(bucket) filter (where upto >= ceil(0.95 * total)) as p95,
      min(bucket) filter (where upto >= ceil(0.99 * total)) as p99
    from ranked group by at
  ) as bins
$$;
comment on function public.panel_latency is 'How long answered requests took over time, failed calls included.';

create function public.panel_ttft(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  with entries as (
    select date_bin(p_step, c.bucket_start, '2000-01-01T00:00:00Z') as at, e.bucket, sum(e.n) as n
    from public.dashboard_cells(p_from, p_to, p_step, p_provider, p_model, p_route, p_arm, p_user_id) as c,
      unnest(c.ttft_buckets, c.ttft_counts) as e (bucket, n)
    group by 1, 2
  ),
  ranked as (
    select at, bucket, sum(n) over (partition by at order by bucket) as upto, sum(n) over (partition by at) as total
    from entries
  )
  select coalesce(jsonb_agg(jsonb_build_object('at', public.utc_text(at), 'requests', total,
    'p50_ms', round(public.log_bucket_middle(p50)::numeric, 2),
    'p95_ms', round(public.log_bucket_middle(p95)::numeric, 2)) order by at), '[]')
  from (
    select at, max(total) as total, min(bucket) filter (where upto >= ceil(0.5 * total)) as p50,
      min(bucket) filter (where upto >= ceil(0.95 * total)) as p95
    from ranked group by at
  ) as bins
$$;
comment on function public.panel_ttft is 'Time to the first token of the calls that answered, over time.';

create function public.panel_models(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  with cells as materialized (
    select * from public.dashboard_cells(p_from, p_to, null, p_provider, p_model, p_route, p_arm, p_user_id)
  ),
  speeds as (
    select c.provider, c.model, e.bucket, sum(e.n) as n
    from cells c, unnest(c.speed_buckets, c.speed_counts) as e (bucket, n) group by 1, 2, 3
  ),
  speed_ranks as (
    select provider, model, bucket, sum(n) over (partition by provider, model order by bucket) as upto,
      sum(n) over (partition by provider, model) as total
    from speeds
  ),
  speed as (
    select provider, model, max(total) as measured, min(bucket) filter (where upto >= ceil(0.25 * total)) as p25,
      min(bucket) filter (where upto >= ceil(0.5 * total)) as p50,
      min(bucket) filter (where upto >= ceil(0.75 * total)) as p75
    from speed_ranks group by 1, 2
  ),
  latencies as (
    select c.provider, c.model, e.bucket, sum(e.n) as n
    from cells c, unnest(c.latency_buckets, c.latency_counts) as e (bucket, n) group by 1, 2, 3
  ),
  latency_ranks as (
    select provider, model, bucket, sum(n) over (partition by provider, model order by bucket) as upto,
      sum(n) over (partition by provider, model) as total
    from latencies
  ),
  latency as (
    select provider, model, min(bucket) filter (where upto >= ceil(0.5 * total)) as p50,
      min(bucket) filter (where upto >= ceil(0.95 * total)) as p95
    from latency_ranks group by 1, 2
  ),
  sums as (
    select provider, model, sum(calls) as calls, sum(requests) as requests, sum(failed) as failed,
      coalesce(sum(calls) filter (where outcome in ('error', 'timeout', 'interrupted')), 0) as failed_calls,
      sum(output_tokens) as output_tokens, sum(cost_microusd) as cost, sum(unpriced) as unpriced
    from cells group by 1, 2
  )
  select coalesce(jsonb_agg(jsonb_build_object('provider', provider, 'model', model, 'calls', calls,
    'requests', requests, 'failed_calls', failed_calls,
    'latency_p50_ms', round(public.log_bucket_middle(latency.p50)::numeric, 2),
    'latency_p95_ms', round(public.log_bucket_middle(latency.p95)::numeric, 2),
    'measured', coalesce(measured, 0),
    'speed_p25', round(public.log_bucket_middle(speed.p25)::numeric, 2),
    'speed_p50', round(public.log_bucket_middle(speed.p50)::numeric, 2),
    'speed_p75', round(public.log_bucket_middle(speed.p75)::numeric, 2),
    'cost_microusd', cost,
    'cost_per_1k_requests_microusd', round(cost * 1000 / nullif(requests, 0)),
    'cost_per_1k_output_tokens_microusd', round(cost * 1000 / nullif(output_tokens, 0), 3),
    'unpriced', unpriced) order by provider, model), '[]')
  from sums left join speed using (provider, model) left join latency using (provider, model)
$$;
comment on function public.panel_models is 'Each model: how much it was asked, how fast it wrote, what it cost.';

create function public.panel_cost(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('at', public.utc_text(at), 'provider', provider, 'cost_microusd', cost,
    'calls', calls, 'unpriced', unpriced) order by at, provider), '[]')
  from (
    select date_bin(p_step, bucket_start, '2000-01-01T00:00:00Z') as at, provider, sum(cost_microusd) as cost,
      sum(calls) as calls, sum(unpriced) as unpriced
    from public.dashboard_cells(p_from, p_to, p_step, p_provider, p_model, p_route, p_arm, p_user_id)
    group by 1, 2
  ) as bins
$$;
comment on function public.panel_cost is 'What calls cost over time, by provider; unpriced are those whose cost is unknown.';

create function public.panel_fallbacks(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('from', fallback_from, 'to', provider, 'kind', kind, 'cause', cause,
    'calls', calls, 'rescued', rescued) order by calls desc, fallback_from, provider, kind, cause), '[]')
  from (
    select fallback_from, provider, kind, cause, sum(calls) as calls, sum(rescued) as rescued
    from public.dashboard_cells(p_from, p_to, null, p_provider, p_model, p_route, p_arm, p_user_id)
    where fallback_from <> ''
    group by 1, 2, 3, 4
  ) as moves
$$;
comment on function public.panel_fallbacks is 'From whom to whom calls went over, why, and how many requests that answered.';

create function public.panel_errors(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('provider', provider, 'outcome', outcome, 'code', error_code,
    'calls', calls, 'saved', saved, 'failed', failed) order by calls desc, provider, outcome, error_code), '[]')
  from (
    select provider, outcome, error_code, sum(calls) as calls, sum(saved) as saved, sum(failed) as failed
    from public.dashboard_cells(p_from, p_to, null, p_provider, p_model, p_route, p_arm, p_user_id)
    where outcome in ('error', 'timeout', 'interrupted')
    group by 1, 2, 3
  ) as errors
$$;
comment on function public.panel_errors is 'Calls that failed: saved are those whose caller was answered nevertheless.';

create function public.panel_savings(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('provider', provider, 'input_tokens', input_tokens,
    'cached_tokens', cached_tokens, 'cached_share', round(cached_tokens / nullif(input_tokens, 0), 6),
    'saving_microusd', saving) order by provider), '[]')
  from (
    select provider, sum(input_tokens) as input_tokens, sum(cached_tokens) as cached_tokens,
      sum(saving_microusd) as saving
    from public.dashboard_cells(p_from, p_to, null, p_provider, p_model, p_route, p_arm, p_user_id)
    group by 1
  ) as providers
$$;
comment on function public.panel_savings is 'Input that vendors had in their caches, and what that took off the bill.';

-- Whom to stop: who was assigned to an arm counts for it, whoever answered; `served` says who did.
create function public.panel_arms(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  with cells as materialized (
    select * from public.dashboard_cells(p_from, p_to, null, p_provider, p_model, p_route, p_arm, p_user_id)
    where arm <> ''
  ),
  entries as (
    select c.experiment, c.arm, 'latency' as measure, e.bucket, sum(e.n) as n
    from cells c, unnest(c.latency_buckets, c.latency_counts) as e (bucket, n) group by 1, 2, 4
    union all
    select c.experiment, c.arm, 'ttft', e.bucket, sum(e.n)
    from cells c, unnest(c.ttft_buckets, c.ttft_counts) as e (bucket, n) group by 1, 2, 4
  ),
  ranked as (
    select experiment, arm, measure, bucket,
      sum(n) over (partition by experiment, arm, measure order by bucket) as upto,
      sum(n) over (partition by experiment, arm, measure) as total
    from entries
  ),
  quantiles as (
    select experiment, arm,
      min(bucket) filter (where measure = 'latency' and upto >= ceil(0.5 * total)) as latency_p50,
      min(bucket) filter (where measure = 'latency' and upto >= ceil(0.95 * total)) as latency_p95,
      min(bucket) filter (where measure = 'ttft' and upto >= ceil(0.5 * total)) as ttft_p50
    from ranked group by 1, 2
  ),
  served as (
    select experiment, arm, jsonb_object_agg(provider, requests) as served
    from (select experiment, arm, provider, sum(requests) as requests from cells group by 1, 2, 3 having sum(requests) > 0)
      as each_provider
    group by 1, 2
  ),
  thumbs as (
    select coalesce(e.experiment, '') as experiment, e.arm,
      count(*) filter (where f.thumb = 1) as up, count(*) filter (where f.thumb = -1) as down
    from public.feedback f,
      -- One look per thumb, and never a join with all events: the limit sees to that.
      lateral (
        select experiment, experiment_arm as arm from public.inference_events
        where request_id = f.request_id and attempt = 1 and created_at >= p_from and created_at < p_to
          and experiment_arm is not null and (p_user_id is null or user_id = p_user_id)
        limit 1
      ) as e
    where f.created_at >= p_from
    group by 1, 2
  ),
  sums as (
    select experiment, arm, sum(requests) as requests, sum(failed) as failed, sum(rescued) as rescued,
      sum(calls) as calls, coalesce(sum(calls) filter (where outcome in ('error', 'timeout', 'interrupted')), 0)
        as failed_calls,
      sum(cost_microusd) as cost, sum(unpriced) as unpriced, sum(output_tokens) as output_tokens
    from cells group by 1, 2
  )
  select coalesce(jsonb_agg(jsonb_build_object('experiment', experiment, 'arm', arm, 'requests', requests,
    'failed', failed, 'error_rate', round(failed / nullif(requests, 0), 6), 'rescued', rescued,
    'calls', calls, 'failed_calls', failed_calls, 'served', served,
    'latency_p50_ms', round(public.log_bucket_middle(latency_p50)::numeric, 2),
    'latency_p95_ms', round(public.log_bucket_middle(latency_p95)::numeric, 2),
    'ttft_p50_ms', round(public.log_bucket_middle(ttft_p50)::numeric, 2),
    'cost_microusd', cost, 'cost_per_1k_requests_microusd', round(cost * 1000 / nullif(requests, 0)),
    'cost_per_1k_output_tokens_microusd', round(cost * 1000 / nullif(output_tokens, 0), 3),
    'unpriced', unpriced, 'thumbs_up', coalesce(up, 0), 'thumbs_down', coalesce(down, 0)) order by experiment, arm), '[]')
  from sums left join quantiles using (experiment, arm) left join served using (experiment, arm)
    left join thumbs using (experiment, arm)
$$;
comment on function public.panel_arms is 'The arms of experiments as assigned, with the providers that served them.';

create function public.panel_recent(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  -- No request has eight calls: 400 of these are 50 requests at least.
  with latest as (
    select request_id, max(created_at) as at from (
      select e.request_id, e.created_at from public.inference_events e
      where e.created_at >= p_from and e.created_at < p_to and (p_provider is null or e.provider = p_provider)
        and (p_model is null or e.model = p_model) and (p_route is null or e.route = p_route)
        and (p_arm is null or e.experiment_arm = p_arm) and (p_user_id is null or e.user_id = p_user_id)
      order by e.created_at desc limit 400
    ) as calls
    group by 1 order by 2 desc, 1 limit 50
  ),
  whole as (
    select e.*, latest.at as ended_at,
      row_number() over (partition by e.request_id order by (e.outcome = 'ok') desc, e.attempt desc) as worth
    from latest join public.inference_events e using (request_id)
    where e.created_at >= latest.at - interval '5 min' and e.created_at < latest.at + interval '5 min'
      and (p_user_id is null or e.user_id = p_user_id)
  )
  select coalesce(jsonb_agg(row order by row ->> 'at' desc, row ->> 'request_id'), '[]') from (
    select jsonb_build_object('at', public.utc_text(max(w.ended_at)), 'request_id', w.request_id,
      'route', min(w.route), 'caller_kind', min(w.caller_kind), 'arm', min(w.experiment_arm),
      'provider', min(w.provider) filter (where worth = 1), 'model', min(w.model) filter (where worth = 1),
      'outcome', min(w.outcome) filter (where worth = 1), 'error_code', min(w.error_code) filter (where worth = 1),
      'calls', count(*), 'path', string_agg(w.provider, ' → ' order by w.attempt),
      'ttft_ms', min(w.ttft_ms) filter (where worth = 1),
      'latency_ms', greatest(max(w.latency_ms), sum(w.latency_ms) filter (where w.outcome <> 'cancelled')),
      'output_tokens', min(w.output_tokens) filter (where worth = 1),
      'cost_microusd', case when bool_or(w.cost_microusd is null) then null else sum(w.cost_microusd) end) as row
    from whole w group by w.request_id
  ) as requests
$$;
comment on function public.panel_recent is 'The last fifty requests, as their callers saw them.';

create function public.panel_request(p_request_id uuid, p_user_id uuid default null) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('attempt', e.attempt, 'at', public.utc_text(e.created_at),
    'kind', e.kind, 'provider', e.provider, 'model', e.model, 'outcome', e.outcome, 'error_code', e.error_code,
    'finish_reason', e.finish_reason, 'ttft_ms', e.ttft_ms, 'latency_ms', e.latency_ms,
    'input_tokens', e.input_tokens, 'output_tokens', e.output_tokens, 'cached_tokens', e.cached_tokens,
    'reasoning_tokens', e.reasoning_tokens, 'estimated', e.estimated, 'units', e.units, 'unit', e.unit,
    'cost_microusd', e.cost_microusd, 'fallback_from', e.fallback_from, 'route', e.route, 'modality', e.modality,
    'caller_kind', e.caller_kind, 'experiment', e.experiment, 'arm', e.experiment_arm, 'gate', e.gate,
    'gate_arm', e.gate_arm, 'rollout_id', e.rollout_id, 'rollout_share', e.rollout_share,
    'config_version', e.config_version, 'cold_start', e.cold_start, 'region', e.region, 'deployment', e.deployment,
    'thumb', f.thumb) order by e.attempt), '[]')
  from public.inference_events e left join public.feedback f using (request_id)
  where e.request_id = p_request_id and (p_user_id is null or e.user_id = p_user_id)
$$;
comment on function public.panel_request is 'Every call of one request. What was asked and answered is in no row.';

create function public.panel_options(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  with cells as materialized (
    select distinct provider, model, route, arm
    from public.dashboard_cells(p_from, p_to, null, null, null, null, null, p_user_id)
  )
  select coalesce(jsonb_agg(jsonb_build_object('filter', filter, 'value', value) order by filter, value), '[]') from (
    select 'provider' as filter, provider as value from cells
    union select 'model', model from cells
    union select 'route', route from cells
    union select 'arm', arm from cells where arm <> ''
    union select 'provider', p_provider where p_provider is not null
    union select 'model', p_model where p_model is not null
    union select 'route', p_route where p_route is not null
    union select 'arm', p_arm where p_arm is not null
  ) as options
$$;
comment on function public.panel_options is 'What there is to filter by in a period, and what is filtered by.';

-- Experiments: the figures of each user in each arm, for lib/control/experiments.py; what that finds is kept here.
create table public.experiment_results (
  experiment text not null,
  period text not null check (period in ('24h', '7d')),
  computed_at timestamptz not null,
  result jsonb not null,
  primary key (experiment, period)
);
comment on table public.experiment_results is 'The last analysis of each experiment: intervals, sample ratio, verdict.';
alter table public.experiment_results enable row level security;
create policy "operators" on public.experiment_results for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'operator');
revoke all on public.experiment_results from anon, authenticated, service_role;
grant select on public.experiment_results to authenticated, service_role;

create function public.panel_analysis(p_period text) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('experiment', experiment, 'computed_at', public.utc_text(computed_at),
    'period', period, 'result', result) order by experiment), '[]')
  from public.experiment_results where period = p_period
$$;
comment on function public.panel_analysis is 'The last analyses of the experiments.';

create function public.experiment_units(p_experiment text, p_from timestamptz, p_to timestamptz) returns jsonb
language sql stable set search_path = ''
as $$
  with calls as materialized (
    select * from public.inference_calls(p_from, p_to) as c
    where c.experiment = p_experiment and c.arm <> '' and c.user_id is not null
  ),
  -- Who was moved counts for the arm that it saw first.
  arms as (
    select distinct on (user_id) user_id, arm from calls order by user_id, created_at, request_id, attempt
  ),
  answers as (
    select user_id, public.log_bucket(latency_ms) as latency, public.log_bucket(ttft_ms) as ttft
    from calls where is_answer and outcome = 'ok'
  ),
  latencies as (
    select user_id, jsonb_agg(jsonb_build_array(latency, n) order by latency) as latency
    from (select user_id, latency, count(*) as n from answers group by 1, 2) as each_bucket group by 1
  ),
  ttfts as (
    select user_id, jsonb_agg(jsonb_build_array(ttft, n) order by ttft) as ttft
    from (select user_id, ttft, count(*) as n from answers where ttft is not null group by 1, 2) as each_bucket group by 1
  ),
  thumbs as (
    select c.user_id, count(*) filter (where f.thumb = 1) as up, count(*) filter (where f.thumb = -1) as down
    from calls c join public.feedback f using (request_id) where c.attempt = 1 group by 1
  ),
  sums as (
    select user_id, min(created_at) as first_at, count(*) filter (where is_answer) as requests,
      count(*) filter (where is_answer and outcome in ('error', 'timeout', 'interrupted')) as failed,
      -- Nobody's answer for want of the assigned provider, whoever stood in for it.
      count(*) filter (where outcome in ('error', 'timeout', 'interrupted')) as failed_calls,
      coalesce(sum(latency_ms) filter (where is_answer and outcome = 'ok'), 0) as latency_ms,
      coalesce(sum(cost_microusd), 0) as cost, count(*) filter (where cost_microusd is null) as unpriced,
      sum(output_tokens) as output_tokens
    from calls group by 1
  )
  select coalesce(jsonb_agg(jsonb_build_object('user_id', user_id, 'arm', arm, 'first_at', public.utc_text(first_at),
    'requests', requests, 'failed', failed, 'failed_calls', failed_calls, 'latency_ms', latency_ms,
    'latency', coalesce(latency, '[]'), 'ttft', coalesce(ttft, '[]'), 'cost_microusd', cost, 'unpriced', unpriced,
    'output_tokens', output_tokens, 'thumbs_up', coalesce(up, 0), 'thumbs_down', coalesce(down, 0))
    order by first_at, user_id), '[]')
  from sums join arms using (user_id) left join latencies using (user_id) left join ttfts using (user_id)
    left join thumbs using (user_id)
$$;
comment on function public.experiment_units is
  'What each user of an experiment brought to the arm of its first request; latency and ttft as [[bucket, count]].';

create function public.experiments_since(p_from timestamptz) returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(experiment order by experiment), '[]')
  from (select distinct experiment from public.inference_rollup_1h
    where bucket_start >= p_from and experiment <> '' and arm <> '') as names
$$;
comment on function public.experiments_since is 'The experiments that callers were assigned in.';

create function public.keep_experiment_result(p_experiment text, p_period text, p_result jsonb) returns void
language sql security definer set search_path = ''
as $$
  insert into public.experiment_results values (p_experiment, p_period, private.now(), p_result)
  on conflict (experiment, period) do update set computed_at = excluded.computed_at, result = excluded.result
$$;
comment on function public.keep_experiment_result is 'Keeps what an analysis found in place of the last one.';

revoke all on function public.utc_text, public.dashboard_cells, public.dashboard_totals, public.panel_tiles,
  public.panel_requests, public.panel_latency, public.panel_ttft, public.panel_models, public.panel_cost,
  public.panel_fallbacks, public.panel_errors, public.panel_savings, public.panel_arms, public.panel_recent,
  public.panel_request, public.panel_options, public.panel_analysis, public.experiment_units,
  public.experiments_since, public.keep_experiment_result from public, anon, authenticated;
grant execute on function public.utc_text, public.dashboard_cells, public.dashboard_totals, public.panel_tiles,
  public.panel_requests, public.panel_latency, public.panel_ttft, public.panel_models, public.panel_cost,
  public.panel_fallbacks, public.panel_errors, public.panel_savings, public.panel_arms, public.panel_recent,
  public.panel_request, public.panel_options, public.panel_analysis to authenticated, service_role;
grant execute on function public.experiment_units, public.experiments_since, public.keep_experiment_result
  to service_role;
