-- fal bills pictures by megapixels, each begun; how many there were says little of what they cost.
alter table public.inference_events drop constraint inference_events_unit_check;
alter table public.inference_events add constraint inference_events_unit_check
  check (unit in ('characters', 'images', 'megapixels', 'seconds'));

alter table public.voices add column languages text[] not null default '{}';
comment on column public.voices.languages is 'All that it is verified for, as ISO 639-1 codes; `language` is the first.';
create index voices_languages_idx on public.voices using gin (languages);
