create table public.cron_runs (
  id bigint generated always as identity primary key,
  job text not null,
  outcome text not null default 'running' check (outcome in ('running', 'ok', 'error', 'lost')),
  report jsonb not null default '{}',
  started_at timestamptz not null,
  lease_until timestamptz not null,
  finished_at timestamptz,
  check ((outcome = 'running') = (finished_at is null))
);
comment on table public.cron_runs is 'One row per run of a scheduled job: when, how it ended, and what it did.';
create unique index cron_runs_running_idx on public.cron_runs (job) where outcome = 'running';
create index cron_runs_job_idx on public.cron_runs (job, started_at desc);
alter table public.cron_runs enable row level security;
revoke all on public.cron_runs from anon, authenticated, service_role;
grant select on public.cron_runs to service_role;

create function public.start_cron_run(p_job text, p_lease_s integer default 300) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_id bigint;
begin
  update public.cron_runs set outcome = 'lost', finished_at = v_now
  where job = p_job and outcome = 'running' and lease_until <= v_now;
  insert into public.cron_runs (job, started_at, lease_until)
  values (p_job, v_now, v_now + make_interval(secs => p_lease_s))
  on conflict (job) where outcome = 'running' do nothing
  returning id into v_id;
  return v_id;
end
$$;
comment on function public.start_cron_run is
  'Begins a run and returns its id, or null while another of the same job runs. One that overstays its lease is lost.';

create function public.finish_cron_run(p_id bigint, p_outcome text, p_report jsonb) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update public.cron_runs set outcome = p_outcome, report = p_report, finished_at = private.now()
  where id = p_id and outcome = 'running';
  return found;
end
$$;
comment on function public.finish_cron_run is 'Ends a run as ok or error; false where it was lost meanwhile.';

insert into private.retention values ('cron_runs', interval '30 days');

create function private.keep(p_table text) returns interval
language sql stable set search_path = ''
as $$ select keep from private.retention where table_name = p_table $$;

create function public.apply_retention() returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_today date := private.today();
  v_report jsonb;
  v_count bigint;
begin
  v_report := jsonb_build_object('inference_events_partitions',
    private.drop_event_partitions((v_today - private.keep('inference_events'))::date));
  delete from public.usage_counters where day < v_today - private.keep('usage_counters');
  get diagnostics v_count = row_count;
  v_report := v_report || jsonb_build_object('usage_counters', v_count);
  delete from public.reservations where state <> 'held' and ended_at < v_now - private.keep('reservations');
  get diagnostics v_count = row_count;
  v_report := v_report || jsonb_build_object('reservations', v_count);
  delete from public.idempotency_keys where expires_at <= v_now;
  get diagnostics v_count = row_count;
  v_report := v_report || jsonb_build_object('idempotency_keys', v_count);
  delete from public.stop_requests where created_at < v_now - private.keep('stop_requests');
  get diagnostics v_count = row_count;
  v_report := v_report || jsonb_build_object('stop_requests', v_count);
  delete from public.cron_runs where outcome <> 'running' and started_at < v_now - private.keep('cron_runs');
  get diagnostics v_count = row_count;
  return v_report || jsonb_build_object('cron_runs', v_count);
end
$$;
comment on function public.apply_retention is 'Removes what is older than private.retention says; returns how much, by table.';

create function public.forget_user(p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  -- Kept nowhere else: what is counted stays together, but not with the person.
  v_pseudonym uuid := gen_random_uuid();
  v_events bigint;
  v_assets bigint;
  v_files jsonb;
begin
  update public.inference_events set user_id = v_pseudonym, metadata = '{}' where user_id = p_user_id;
  get diagnostics v_events = row_count;
  delete from public.assets where user_id = p_user_id;
  get diagnostics v_assets = row_count;
  delete from public.idempotency_keys where owner_id = p_user_id;
  delete from public.stop_requests where user_id = p_user_id;
  delete from public.limits where subject = p_user_id::text;
  -- Money that is held or was spent remains in the totals, and a request that still runs can settle. First the
  -- reservations, then the counters, as settle() has it.
  delete from public.reservations where caller_id = p_user_id and state <> 'held';
  update public.reservations set caller_id = v_pseudonym where caller_id = p_user_id;
  update public.usage_counters set subject = v_pseudonym::text where subject = p_user_id::text;
  -- What lies there, not what was asked for: so this may be called again until nothing is left.
  select coalesce(jsonb_agg(jsonb_build_object('bucket_id', bucket_id, 'path', name) order by bucket_id, name), '[]')
  into v_files from storage.objects where name like p_user_id::text || '/%';
  return jsonb_build_object('events', v_events, 'assets', v_assets, 'files', v_files);
end
$$;
comment on function public.forget_user is
  'Removes a user''s rows and detaches its events. Remove the returned files by the Storage API, then the user itself.';

revoke all on function public.start_cron_run, public.finish_cron_run, public.apply_retention, public.forget_user
  from public, anon, authenticated;
grant execute on function public.start_cron_run, public.finish_cron_run, public.apply_retention, public.forget_user
  to service_role;

-- Where Postgres has a scheduler of its own, it does not need ours for this. Elsewhere /api/health?run=1 calls the same.
do $$
begin
  if not exists (select from pg_available_extensions where name = 'pg_cron') then
    return;
  end if;
  create extension if not exists pg_cron;
  perform cron.schedule('blueprint-expire-reservations', '* * * * *', 'select public.expire_reservations()');
  perform cron.schedule('blueprint-event-partitions', '7 */6 * * *', 'select public.ensure_event_partitions()');
  perform cron.schedule('blueprint-retention', '37 3 * * *', 'select public.apply_retention()');
end
$$;
