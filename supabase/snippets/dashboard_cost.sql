-- What the last 7 days cost, by two hours and provider.
select *
from jsonb_to_recordset(public.panel_cost(now() - interval '7 days', now(), interval '2 hours'))
  as row (at timestamptz, provider text, cost_microusd bigint, calls bigint, unpriced bigint);
