-- The numbers of the last 24 hours beside those of the day before.
select *
from jsonb_to_recordset(public.panel_tiles(now() - interval '24 hours', now(), interval '1 hour'))
  as row (metric text, value numeric, previous numeric);
