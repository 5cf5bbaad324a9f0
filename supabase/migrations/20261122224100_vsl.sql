-- A sales letter is a job of steps. One driver at a time holds a job, by a lease; what a step made is kept under a hash of
-- all that went into it, so that whoever goes on, or makes another job of the same parts, finds it.
create table public.vsl_jobs (
  id uuid primary key,
  user_id uuid not null references auth.users on delete cascade,
  caller_kind text not null check (caller_kind in ('user', 'guest', 'key')),
  request jsonb not null,
  request_hash text not null check (request_hash ~ '^[0-9a-f]{64}$'),
  status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
  stage text not null default 'script'
    check (stage in ('script', 'storyboard', 'frames', 'narration', 'timeline', 'captions', 'render', 'upload', 'done')),
  percent smallint not null default 0 check (percent between 0 and 100),
  budget_microusd bigint check (budget_microusd >= 0),
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  is_cancelling boolean not null default false,
  driver uuid,
  lease_until timestamptz,
  next_at timestamptz not null,
  result jsonb,
  error jsonb,
  webhook_url text,
  webhook_state text not null default 'none' check (webhook_state in ('none', 'waiting', 'due', 'sent', 'failed')),
  webhook_attempts smallint not null default 0,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  finished_at timestamptz,
  check ((status in ('succeeded', 'failed', 'canceled')) = (finished_at is not null)),
  check (status <> 'succeeded' or result is not null),
  check (status <> 'failed' or error is not null)
);
comment on table public.vsl_jobs is 'Sales letters: what was asked for, how far it is, and what came of it.';
-- The same request of the same owner is one job, until it has failed or was given up.
create unique index vsl_jobs_request_idx on public.vsl_jobs (user_id, request_hash)
  where status in ('queued', 'running', 'succeeded');
create index vsl_jobs_user_idx on public.vsl_jobs (user_id, created_at desc, id);
create index vsl_jobs_due_idx on public.vsl_jobs (next_at) where status in ('queued', 'running');
create index vsl_jobs_webhook_idx on public.vsl_jobs (next_at) where webhook_state = 'due';
alter table public.vsl_jobs enable row level security;
create policy "own jobs" on public.vsl_jobs for select to authenticated using (user_id = (select auth.uid()));
revoke all on public.vsl_jobs from anon, authenticated, service_role;
grant select on public.vsl_jobs to authenticated, service_role;

create table public.vsl_steps (
  job_id uuid not null references public.vsl_jobs on delete cascade,
  step text not null check (step ~ '^[a-z]+(/[0-9]{1,3})?$'),
  user_id uuid not null references auth.users on delete cascade,
  content_key text not null check (content_key ~ '^[0-9a-f]{64}$'),
  status text not null check (status in ('running', 'done', 'failed')),
  attempts integer not null default 1,
  cached boolean not null default false,
  ms integer,
  cost_microusd bigint not null default 0,
  provider text,
  model text,
  result jsonb,
  error jsonb,
  started_at timestamptz not null,
  finished_at timestamptz,
  primary key (job_id, step),
  check ((status = 'running') = (finished_at is null)),
  check (status <> 'done' or result is not null),
  check (status <> 'failed' or error is not null)
);
comment on table public.vsl_steps is 'What each step of a job made, found again by a hash of all that went into it.';
create index vsl_steps_content_idx on public.vsl_steps (user_id, content_key) where status = 'done';
alter table public.vsl_steps enable row level security;
create policy "own steps" on public.vsl_steps for select to authenticated using (user_id = (select auth.uid()));
revoke all on public.vsl_steps from anon, authenticated, service_role;
grant select on public.vsl_steps to authenticated, service_role;

create function private.vsl_job_json(p_job public.vsl_jobs) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(p_job) - 'request_hash' || jsonb_build_object('steps', coalesce((
    select jsonb_agg(to_jsonb(s) - array['job_id', 'user_id'] order by s.started_at, s.step)
    from public.vsl_steps as s where s.job_id = (p_job).id), '[]'))
$$;

create function public.create_vsl_job(
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
    on conflict (user_id, request_hash) where status in ('queued', 'running', 'succeeded') do nothing
    returning * into v_job;
    v_created := found;
    if not v_created then
      select * into v_job from public.vsl_jobs
      where user_id = p_user_id and request_hash = p_request_hash and status in ('queued', 'running', 'succeeded');
      continue when not found; -- it failed, or was given up, just now
    end if;
    return private.vsl_job_json(v_job) || jsonb_build_object('created', v_created);
  end loop;
end
$$;
comment on function public.create_vsl_job is 'The job of this request, with `created`: false where there was one already.';

create function public.vsl_job(p_user_id uuid, p_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$ select private.vsl_job_json(j) from public.vsl_jobs as j where j.id = p_id and j.user_id = p_user_id $$;
comment on function public.vsl_job is 'A job of this owner with its steps, or null.';

create function public.vsl_jobs_of(p_user_id uuid, p_before timestamptz default null, p_limit integer default 20)
returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(j) order by j.created_at desc, j.id), '[]') from (
    select id, status, stage, percent, created_at, finished_at, cost_microusd, error,
      result ->> 'title' as title, request ->> 'product' as product, result -> 'poster' as poster
    from public.vsl_jobs
    where user_id = p_user_id and (p_before is null or created_at < p_before)
    order by created_at desc, id limit least(p_limit, 100)) as j
$$;
comment on function public.vsl_jobs_of is 'An owner''s jobs, the newest first.';

create function public.claim_vsl_job(p_driver uuid, p_id uuid default null, p_lease_s integer default 60) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_job public.vsl_jobs;
begin
  select * into v_job from public.vsl_jobs
  where status in ('queued', 'running') and (lease_until is null or lease_until <= v_now)
    and (id = p_id or (p_id is null and next_at <= v_now))
  order by next_at limit 1 for update skip locked;
  if not found then
    return null;
  end if;
  if v_job.is_cancelling then
    update public.vsl_jobs set status = 'canceled', finished_at = v_now, updated_at = v_now, driver = null,
      lease_until = null, next_at = v_now, webhook_state = private.vsl_webhook_due(webhook_state)
    where id = v_job.id returning * into v_job;
    return private.vsl_job_json(v_job);
  end if;
  update public.vsl_jobs set status = 'running', driver = p_driver, updated_at = v_now,
    lease_until = v_now + make_interval(secs => p_lease_s)
  where id = v_job.id returning * into v_job;
  return private.vsl_job_json(v_job);
end
$$;
comment on function public.claim_vsl_job is
  'The right to drive this job, or any that is due, with its steps; null where there is none or another has it.';

create function private.vsl_webhook_due(p_state text) returns text
language sql immutable set search_path = ''
as $$ select case when p_state = 'waiting' then 'due' else p_state end $$;

create function public.renew_vsl_job(
  p_id uuid, p_driver uuid, p_lease_s integer default 60, p_stage text default null, p_percent integer default null
) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_is_cancelling boolean;
begin
  update public.vsl_jobs set lease_until = v_now + make_interval(secs => p_lease_s), updated_at = v_now,
    stage = coalesce(p_stage, stage), percent = greatest(percent, coalesce(p_percent, 0))
  where id = p_id and driver = p_driver and status = 'running' returning is_cancelling into v_is_cancelling;
  if not found then
    return 'lost';
  end if;
  return case when v_is_cancelling then 'cancelling' else 'held' end;
end
$$;
comment on function public.renew_vsl_job is
  'held: go on. cancelling: its owner wants it to end. lost: another drives it, or it is over.';

create function public.start_vsl_step(p_id uuid, p_driver uuid, p_step text, p_content_key text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_user uuid;
  v_step public.vsl_steps;
  v_found public.vsl_steps;
begin
  select user_id into v_user from public.vsl_jobs
  where id = p_id and driver = p_driver and status = 'running' for update;
  if not found then
    return '{"outcome": "lost"}';
  end if;
  select * into v_step from public.vsl_steps where job_id = p_id and step = p_step;
  if found and v_step.status = 'done' and v_step.content_key = p_content_key then
    return jsonb_build_object('outcome', 'done', 'step', to_jsonb(v_step) - array['job_id', 'user_id']);
  end if;
  select * into v_found from public.vsl_steps
  where user_id = v_user and content_key = p_content_key and status = 'done'
    -- What stands in for a picture that could not be had is for its own job alone.
    and not coalesce((result ->> 'degraded')::boolean, false)
  order by finished_at desc limit 1;
  insert into public.vsl_steps as s (
    job_id, step, user_id, content_key, status, cached, ms, provider, model, result, started_at, finished_at)
  values (
    p_id, p_step, v_user, p_content_key, case when v_found.job_id is null then 'running' else 'done' end,
    v_found.job_id is not null, case when v_found.job_id is null then null else 0 end, v_found.provider, v_found.model,
    v_found.result, v_now, case when v_found.job_id is null then null else v_now end)
  on conflict (job_id, step) do update set
    attempts = case when s.content_key = excluded.content_key then s.attempts + 1 else 1 end,
    content_key = excluded.content_key, status = excluded.status, cached = excluded.cached, ms = excluded.ms,
    cost_microusd = s.cost_microusd, provider = excluded.provider, model = excluded.model, result = excluded.result,
    error = null, started_at = excluded.started_at, finished_at = excluded.finished_at
  returning * into v_step;
  return jsonb_build_object(
    'outcome', case when v_found.job_id is null then 'start' else 'done' end,
    'step', to_jsonb(v_step) - array['job_id', 'user_id']);
end
$$;
comment on function public.start_vsl_step is
  'start: do it. done: here is what was made of the very same before, for this job or another. lost: the lease is gone.';

create function public.finish_vsl_step(
  p_id uuid, p_driver uuid, p_step text, p_content_key text, p_result jsonb default null, p_error jsonb default null,
  p_ms integer default 0, p_cost_microusd bigint default 0, p_provider text default null, p_model text default null,
  p_cached boolean default false
) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_held boolean;
begin
  -- What was made and paid for is kept, whoever drives by now: its key says all that went into it.
  update public.vsl_steps set status = case when p_error is null then 'done' else 'failed' end, result = p_result,
    error = p_error, ms = p_ms, cost_microusd = cost_microusd + p_cost_microusd, provider = p_provider, model = p_model,
    cached = p_cached, finished_at = v_now
  where job_id = p_id and step = p_step and content_key = p_content_key and status <> 'done';
  if found then
    update public.vsl_jobs set cost_microusd = cost_microusd + p_cost_microusd, updated_at = v_now where id = p_id;
  end if;
  select driver = p_driver and status = 'running' into v_held from public.vsl_jobs where id = p_id;
  return coalesce(v_held, false);
end
$$;
comment on function public.finish_vsl_step is 'Keeps what a step made, or why it failed; false where the lease is gone.';

create function public.finish_vsl_job(
  p_id uuid, p_driver uuid, p_status text, p_result jsonb default null, p_error jsonb default null
) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
begin
  update public.vsl_jobs set status = p_status, result = p_result, error = p_error, finished_at = v_now,
    updated_at = v_now, driver = null, lease_until = null, next_at = v_now,
    stage = case when p_status = 'succeeded' then 'done' else stage end,
    percent = case when p_status = 'succeeded' then 100 else percent end,
    webhook_state = private.vsl_webhook_due(webhook_state)
  where id = p_id and driver = p_driver and status = 'running';
  return found;
end
$$;
comment on function public.finish_vsl_job is 'Ends a job; false where another drives it, or it is over.';

create function public.release_vsl_job(p_id uuid, p_driver uuid, p_after_s integer default 0) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
begin
  update public.vsl_jobs set driver = null, lease_until = null, updated_at = v_now,
    next_at = v_now + make_interval(secs => p_after_s)
  where id = p_id and driver = p_driver and status = 'running';
  return found;
end
$$;
comment on function public.release_vsl_job is 'Leaves a job to whoever goes on with it, so many seconds from now at the earliest.';

create function public.cancel_vsl_job(p_user_id uuid, p_id uuid) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_job public.vsl_jobs;
begin
  select * into v_job from public.vsl_jobs where id = p_id and user_id = p_user_id for update;
  if not found then
    return null;
  elsif v_job.finished_at is not null then
    return v_job.status;
  elsif v_job.lease_until > v_now then
    -- Whoever drives it sees this at the next renewal, and withdraws what is running at the vendors.
    update public.vsl_jobs set is_cancelling = true, updated_at = v_now where id = p_id;
    return 'canceling';
  end if;
  update public.vsl_jobs set status = 'canceled', is_cancelling = true, finished_at = v_now, updated_at = v_now,
    driver = null, lease_until = null, next_at = v_now, webhook_state = private.vsl_webhook_due(webhook_state)
  where id = p_id;
  return 'canceled';
end
$$;
comment on function public.cancel_vsl_job is 'The status that follows: canceled, canceling, or how it had ended; null for no job of theirs.';

create function public.retry_vsl_job(p_user_id uuid, p_id uuid) returns text
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
comment on function public.retry_vsl_job is
  'queued, or the status that forbids it; superseded: the same was asked for again since; null for no job of theirs.';

create function public.delete_vsl_job(p_user_id uuid, p_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_assets jsonb;
begin
  delete from public.vsl_jobs
  where id = p_id and user_id = p_user_id and (finished_at is not null or lease_until is null or lease_until <= private.now());
  if not found then
    return case when exists (select from public.vsl_jobs where id = p_id and user_id = p_user_id)
      then '{"outcome": "running"}'::jsonb end;
  end if;
  select coalesce(jsonb_agg(id), '[]') into v_assets from public.assets where job_id = p_id and user_id = p_user_id;
  return jsonb_build_object('outcome', 'deleted', 'assets', v_assets);
end
$$;
comment on function public.delete_vsl_job is
  'Removes a job and names the assets that were made for it; running: cancel it first; null for no job of theirs.';

create function public.claim_vsl_webhook(p_lease_s integer default 60) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_job public.vsl_jobs;
begin
  update public.vsl_jobs set webhook_attempts = webhook_attempts + 1,
    next_at = v_now + make_interval(secs => p_lease_s * power(2, webhook_attempts)::integer)
  where id = (
    select id from public.vsl_jobs where webhook_state = 'due' and next_at <= v_now
    order by next_at limit 1 for update skip locked)
  returning * into v_job;
  return case when v_job.id is not null then private.vsl_job_json(v_job) end;
end
$$;
comment on function public.claim_vsl_webhook is 'A job whose owner is to be told that it has ended; who fails to is asked again later.';

create function public.finish_vsl_webhook(p_id uuid, p_state text) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update public.vsl_jobs set webhook_state = p_state where id = p_id and webhook_state = 'due';
  return found;
end
$$;

revoke all on function public.create_vsl_job, public.vsl_job, public.vsl_jobs_of, public.claim_vsl_job,
  public.renew_vsl_job, public.start_vsl_step, public.finish_vsl_step, public.finish_vsl_job, public.release_vsl_job,
  public.cancel_vsl_job, public.retry_vsl_job, public.delete_vsl_job, public.claim_vsl_webhook,
  public.finish_vsl_webhook from public, anon, authenticated;
grant execute on function public.create_vsl_job, public.vsl_job, public.vsl_jobs_of, public.claim_vsl_job,
  public.renew_vsl_job, public.start_vsl_step, public.finish_vsl_step, public.finish_vsl_job, public.release_vsl_job,
  public.cancel_vsl_job, public.retry_vsl_job, public.delete_vsl_job, public.claim_vsl_webhook,
  public.finish_vsl_webhook to service_role;

-- What else a film brings: its sound alone, and the transcript.
update storage.buckets set allowed_mime_types = array[
  'video/mp4', 'text/vtt', 'application/x-subrip', 'text/html', 'application/json',
  'audio/mpeg', 'audio/wav', 'audio/ogg', 'audio/flac', 'audio/webm', 'audio/mp4',
  'image/png', 'image/jpeg', 'image/webp']
where id = 'vsl_assets';
