-- Since when callers have been assigned in an experiment: a verdict that may be looked at again and again takes them all.
create function public.experiment_began(p_experiment text) returns text
language sql stable set search_path = ''
as $$
  select public.utc_text(min(bucket_start)) from public.inference_rollup_1h
  where experiment = p_experiment and arm <> ''
$$;
comment on function public.experiment_began is 'The hour in which callers were first assigned in it.';
revoke all on function public.experiment_began from public, anon, authenticated;
grant execute on function public.experiment_began to service_role;
