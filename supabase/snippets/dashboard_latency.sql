-- p50, p95 and p99 of the last 24 hours, by hour.
select *
from jsonb_to_recordset(public.panel_latency(now() - interval '24 hours', now(), interval '1 hour'))
  as row (at timestamptz, requests bigint, p50_ms numeric, p95_ms numeric, p99_ms numeric);
