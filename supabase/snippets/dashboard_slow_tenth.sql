-- The slowest tenth of the last hour's answers, one by one, failed calls included.
select created_at, request_id, provider, model, route, arm, round(latency_ms) as latency_ms, round(ttft_ms) as ttft_ms
from public.inference_calls(now() - interval '1 hour', now())
where is_answer and outcome = 'ok'
  and latency_ms >= (
    select percentile_cont(0.9) within group (order by latency_ms)
    from public.inference_calls(now() - interval '1 hour', now()) where is_answer and outcome = 'ok')
order by latency_ms desc;
