-- From whom to whom calls went over in the last 24 hours, and why.
select *
from jsonb_to_recordset(public.panel_fallbacks(now() - interval '24 hours', now(), interval '1 hour'))
  as row ("from" text, "to" text, kind text, cause text, calls bigint, rescued bigint);
