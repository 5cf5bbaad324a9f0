-- A job that is being given up is nobody's answer any more: the same request, sent again, is a new job. One that goes on
-- is its answer, with the larger of the two budgets, and with the later one's webhook where the earlier has none.
drop index public.vsl_jobs_request_idx;
create unique index vsl_jobs_request_idx on public.vsl_jobs (user_id, request_hash)
  where status in ('queued', 'running', 'succeeded') and not is_cancelling;

create or replace function public.create_vsl_job(
  p_id uuid, p_user_id uuid, p_caller_kind text, p_request jsonb, p_request_hash text,
  p_budget_microusd bigint default null, p_webhook_url text default null
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_job public.vsl_jobs;
  v_created boolean;
begin
  loop
    insert into public.vsl_jobs (
      id, user_id, caller_kind, request, request_hash, budget_microusd, webhook_url, webhook_state, next_at, created_at, updated_at)
    values (
      p_id, p_user_id, p_caller_kind, p_request, p_request_hash, p_budget_microusd,
      p_webhook_url, case when p_webhook_url is null then 'none' else 'waiting' end, v_now, v_now, v_now)
    on conflict (user_id, request_hash) where status in ('queued', 'running', 'succeeded') and not is_cancelling
    do nothing
    returning * into v_job;
    v_created := found;
    if not v_created then
      -- Neither decides anything about the video: who orders it again may spend more on it, and be told of its end.
      update public.vsl_jobs set
        budget_microusd = case when budget_microusd is not null and p_budget_microusd is not null
          then greatest(budget_microusd, p_budget_microusd) end,
        webhook_url = coalesce(webhook_url, p_webhook_url),
        webhook_state = case
          when webhook_url is not null or p_webhook_url is null then webhook_state
          when finished_at is null then 'waiting' else 'due' end,
        next_at = case
          when webhook_url is null and p_webhook_url is not null and finished_at is not null then v_now
          else next_at end
      where user_id = p_user_id and request_hash = p_request_hash and status in ('queued', 'running', 'succeeded')
        and not is_cancelling
      returning * into v_job;
      continue when not found; -- it failed, or was given up, just now
    end if;
    return private.vsl_job_json(v_job) || jsonb_build_object('created', v_created);
  end loop;
end
$$;

create or replace function public.retry_vsl_job(p_user_id uuid, p_id uuid) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_job public.vsl_jobs;
begin
  select * into v_job from public.vsl_jobs where id = p_id and user_id = p_user_id for update;
  if not found then
    return null;
  elsif v_job.status not in ('failed', 'canceled') then
    return v_job.status;
  elsif exists (
    select from public.vsl_jobs
    where user_id = p_user_id and request_hash = v_job.request_hash and status in ('queued', 'running', 'succeeded')
      and not is_cancelling
  ) then
    return 'superseded';
  end if;
  delete from public.vsl_steps where job_id = p_id and status = 'failed';
  update public.vsl_jobs set status = 'queued', error = null, finished_at = null, is_cancelling = false, driver = null,
    lease_until = null, next_at = v_now, updated_at = v_now,
    webhook_state = case when webhook_state = 'none' then 'none' else 'waiting' end, webhook_attempts = 0
  where id = p_id;
  return 'queued';
end
$$;
