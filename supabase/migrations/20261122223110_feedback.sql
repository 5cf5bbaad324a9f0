-- What callers thought of an answer. Whose it is stands in its request's events alone: who takes these over (a guest who
-- signs up) or is forgotten takes the feedback along.
create table public.feedback (
  request_id uuid primary key,
  thumb smallint not null check (thumb in (-1, 1)),
  comment text check (char_length(comment) <= 1000),
  created_at timestamptz not null
);
comment on table public.feedback is 'Thumbs (1 up, -1 down) and a few words, one row per request.';
create index feedback_created_idx on public.feedback (created_at);
alter table public.feedback enable row level security;
create policy "own feedback, all for operators" on public.feedback for select to authenticated using (
  ((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'operator'
  or exists (
    select from public.inference_events e where e.request_id = feedback.request_id and e.user_id = (select auth.uid()))
);
revoke all on public.feedback from anon, authenticated, service_role;
grant select on public.feedback to authenticated, service_role;

create function public.record_feedback(p_request_id uuid, p_caller_id uuid, p_thumb integer, p_comment text default null)
returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  -- The events of an answer come a moment after it; what it reserved was there before.
  if not exists (select from public.inference_events where request_id = p_request_id and user_id = p_caller_id)
    and not exists (select from public.reservations where id = p_request_id and caller_id = p_caller_id) then
    return false;
  end if;
  insert into public.feedback values (p_request_id, p_thumb, p_comment, private.now())
  on conflict (request_id) do update
  set thumb = excluded.thumb, comment = excluded.comment, created_at = excluded.created_at;
  return true;
end
$$;
comment on function public.record_feedback is 'Keeps the last word on a request; false where this caller has no such request.';

create function public.forget_feedback(p_user_id uuid) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
  v_count bigint;
begin
  delete from public.feedback where request_id in (
    select request_id from public.inference_events where user_id = p_user_id
    union select id from public.reservations where caller_id = p_user_id);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function public.forget_feedback is 'Removes a user''s feedback. Call it before forget_user, which detaches the events.';

insert into private.retention values
  ('inference_rollup_5m', interval '100 days'), ('inference_rollup_1h', interval '400 days'),
  ('feedback', interval '90 days');

create function public.trim_telemetry() returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_report jsonb := '{}';
  v_count bigint;
begin
  delete from public.inference_rollup_5m where bucket_start < v_now - private.keep('inference_rollup_5m');
  get diagnostics v_count = row_count;
  v_report := v_report || jsonb_build_object('inference_rollup_5m', v_count);
  delete from public.inference_rollup_1h where bucket_start < v_now - private.keep('inference_rollup_1h');
  get diagnostics v_count = row_count;
  v_report := v_report || jsonb_build_object('inference_rollup_1h', v_count);
  delete from public.feedback where created_at < v_now - private.keep('feedback');
  get diagnostics v_count = row_count;
  return v_report || jsonb_build_object('feedback', v_count);
end
$$;
comment on function public.trim_telemetry is
  'Removes rollups and feedback that are older than private.retention says; returns how much, by table.';

revoke all on function public.record_feedback, public.forget_feedback, public.trim_telemetry
  from public, anon, authenticated;
grant execute on function public.record_feedback, public.forget_feedback, public.trim_telemetry to service_role;

do $$
begin
  if exists (select from pg_extension where extname = 'pg_cron') then
    perform cron.schedule('blueprint-trim-telemetry', '41 3 * * *', 'select public.trim_telemetry()');
  end if;
end
$$;
