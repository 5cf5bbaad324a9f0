-- greatest() passes over nulls, so what had no limit was told as 0 left. Null: no limit, also of what is left.
create or replace function private.standing(p_counter public.usage_counters, p_limit public.limits, p_now timestamptz)
returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_build_object(
    'requests', jsonb_build_object(
      'limit', p_limit.requests_per_minute,
      'remaining', case when p_limit.requests_per_minute is not null
        then greatest(p_limit.requests_per_minute - p_counter.minute_requests, 0) end,
      'reset_s', greatest(ceil(extract(epoch from p_counter.minute + interval '1 minute' - p_now)), 1)::integer),
    'budget', jsonb_build_object(
      'limit_microusd', p_limit.microusd_per_day,
      'remaining_microusd', case when p_limit.microusd_per_day is not null
        then greatest(p_limit.microusd_per_day - p_counter.reserved_microusd - p_counter.spent_microusd, 0) end,
      'reset_s', greatest(ceil(extract(epoch from (p_counter.day + 1)::timestamp at time zone 'UTC' - p_now)), 1)::integer))
$$;
