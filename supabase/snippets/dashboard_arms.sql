-- The arms of the experiments over the last 7 days, with who served them.
select *
from jsonb_to_recordset(public.panel_arms(now() - interval '7 days', now(), interval '2 hours'))
  as row (experiment text, arm text, requests bigint, failed bigint, error_rate numeric, served jsonb,
    latency_p50_ms numeric, latency_p95_ms numeric, cost_per_1k_requests_microusd numeric, thumbs_up bigint, thumbs_down bigint);
