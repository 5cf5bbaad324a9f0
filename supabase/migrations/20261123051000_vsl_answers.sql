-- A model's answer has no id to ask for it by, and a script takes several. Each is kept as soon as it is there, so that
-- whoever goes on with the step after its process died pays for the one that was under way alone.
alter table public.vsl_steps add column answers jsonb not null default '{}';
comment on column public.vsl_steps.answers is 'While the step runs: what models answered, by a hash of what they were asked.';

create function public.keep_vsl_answer(p_id uuid, p_step text, p_key text, p_answer jsonb) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  -- Whoever drives by now: it is paid for, and its key says all that was asked.
  update public.vsl_steps set answers = answers || jsonb_build_object(p_key, p_answer)
  where job_id = p_id and step = p_step and status = 'running';
  return found;
end
$$;
comment on function public.keep_vsl_answer is 'Keeps an answer of a step that runs; false where it does not.';
revoke all on function public.keep_vsl_answer from public, anon, authenticated;
grant execute on function public.keep_vsl_answer to service_role;

create function private.forget_vsl_answers() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.answers := '{}';
  return new;
end
$$;
create trigger forget_vsl_answers before update on public.vsl_steps
  for each row when (new.status <> 'running' and old.answers <> '{}') execute function private.forget_vsl_answers();
