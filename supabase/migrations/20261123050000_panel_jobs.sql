-- The panel of video jobs. What was asked for and what was made stands in the same rows, so that operators' tokens get no
-- policy to them: for operators the server asks, with its own rights and nobody's p_user_id.
create index vsl_jobs_created_idx on public.vsl_jobs (created_at desc, id);

create function public.panel_jobs(
  p_from timestamptz, p_to timestamptz, p_step interval, p_provider text default null, p_model text default null,
  p_route text default null, p_arm text default null, p_user_id uuid default null
) returns jsonb
language sql stable set search_path = ''
as $$
  with latest as (
    select j.id, j.status, j.stage, j.cost_microusd, j.created_at, coalesce(j.finished_at, j.updated_at) as seen_at
    from public.vsl_jobs j
    where j.created_at >= p_from and j.created_at < p_to and (p_user_id is null or j.user_id = p_user_id)
      -- Jobs have one route, and no arm: each of their calls may have another.
      and (p_route is null or p_route = '/api/vsl') and p_arm is null
      and (p_provider is null and p_model is null or exists (
        select from public.vsl_steps s
        where s.job_id = j.id and (p_provider is null or s.provider = p_provider)
          and (p_model is null or s.model = p_model)))
    order by j.created_at desc, j.id limit 50
  )
  select coalesce(jsonb_agg(jsonb_build_object('at', public.utc_text(created_at), 'job_id', id, 'status', status,
    'step', coalesce(undone.step, stage), 'duration_ms', round(extract(epoch from seen_at - created_at) * 1000),
    'cost_microusd', cost_microusd) order by created_at desc, id), '[]')
  from latest left join lateral (
    select s.step from public.vsl_steps s
    where s.job_id = latest.id and s.status <> 'done' and latest.status <> 'succeeded'
    order by (s.status = 'failed') desc, s.started_at desc, s.step limit 1
  ) as undone on true
$$;
comment on function public.panel_jobs is
  'The last fifty video jobs: the step that failed or is under way, and the time until they ended or were last seen alive.';

revoke all on function public.panel_jobs from public, anon, authenticated;
grant execute on function public.panel_jobs to authenticated, service_role;
