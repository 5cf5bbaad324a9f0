-- p50, p95 and p99 of the last 24 hours, by quarter of an hour.
select *
from jsonb_to_recordset(public.panel_latency(now() - interval '24 hours', now(), interval '15 min'))
  as row (at timestamptz, requests bigint, p50_ms numeric, p95_ms numeric, p99_ms numeric);
