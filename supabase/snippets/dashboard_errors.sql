-- What broke in the last 24 hours, and how much of it a fallback saved.
select *
from jsonb_to_recordset(public.panel_errors(now() - interval '24 hours', now(), interval '1 hour'))
  as row (provider text, outcome text, code text, calls bigint, saved bigint, failed bigint);
