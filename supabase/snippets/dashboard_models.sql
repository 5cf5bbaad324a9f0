-- Each model of the last 7 days: speed, latency, cost per thousand requests.
select *
from jsonb_to_recordset(public.panel_models(now() - interval '7 days', now(), interval '2 hours'))
  as row (provider text, model text, requests bigint, failed_calls bigint,
    latency_p50_ms numeric, latency_p95_ms numeric, speed_p50 numeric, cost_per_1k_requests_microusd numeric);
