create table public.assets (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users on delete cascade,
  state text not null default 'ready' check (state in ('uploading', 'ready')),
  kind text not null check (kind in ('image', 'audio', 'video', 'captions', 'other')),
  bucket_id text not null check (bucket_id in ('generated', 'vsl_assets')),
  path text not null check (starts_with(path, user_id || '/') and path !~ '(^|/)\.{0,2}(/|$)'),
  content_type text not null,
  bytes bigint not null check (bytes >= 0),
  sha256 text check (sha256 ~ '^[0-9a-f]{64}$'),
  provider text,
  model text,
  generation_key text,
  request_id uuid,
  job_id uuid,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  -- The same input of the same owner is never paid twice.
  unique (user_id, generation_key),
  check (state = 'uploading' or sha256 is not null)
);
comment on table public.assets is
  'One row per thing that was generated or uploaded. Several may share one file: names go by content.';
create index assets_user_idx on public.assets (user_id, created_at desc, id);
create index assets_path_idx on public.assets (bucket_id, path);
create index assets_job_idx on public.assets (job_id) where job_id is not null;
create index assets_uploading_idx on public.assets (created_at) where state = 'uploading';

alter table public.assets enable row level security;
create policy "own assets" on public.assets for select to authenticated using (user_id = (select auth.uid()));
revoke all on public.assets from anon, authenticated, service_role;
grant select on public.assets to authenticated;
grant select, insert, update, delete on public.assets to service_role;

create table public.audio_assets (
  asset_id uuid primary key references public.assets on delete cascade,
  voice_provider text,
  voice_id text,
  language text,
  duration_ms integer not null check (duration_ms >= 0),
  characters integer check (characters >= 0),
  alignment jsonb
);
comment on table public.audio_assets is 'What is known of an asset that is heard: voice, length, and when each character is spoken.';
alter table public.audio_assets enable row level security;
create policy "own audio" on public.audio_assets for select to authenticated
  using (exists (select from public.assets where assets.id = asset_id and assets.user_id = (select auth.uid())));
revoke all on public.audio_assets from anon, authenticated, service_role;
grant select on public.audio_assets to authenticated;
grant select, insert, update, delete on public.audio_assets to service_role;

create table public.voices (
  provider text not null,
  id text not null,
  name text not null,
  language text,
  labels jsonb not null default '{}',
  preview_url text,
  synced_at timestamptz not null default now(),
  primary key (provider, id)
);
comment on table public.voices is 'The voices a narration can have, as their providers list them.';
alter table public.voices enable row level security;
create policy "all voices" on public.voices for select to authenticated using (true);
revoke all on public.voices from anon, authenticated, service_role;
grant select on public.voices to authenticated;
grant select, insert, update, delete on public.voices to service_role;

-- Private buckets: what they hold is handed out by signed URLs alone. A name is {user_id}/{sha256}.{ext}.
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values
  ('generated', 'generated', false, 50 * 1024 * 1024, array[
    'image/png', 'image/jpeg', 'image/webp',
    'audio/mpeg', 'audio/wav', 'audio/ogg', 'audio/mp4', 'audio/flac', 'audio/webm']),
  ('vsl_assets', 'vsl_assets', false, 500 * 1024 * 1024, array[
    'video/mp4', 'text/vtt', 'application/x-subrip', 'audio/mpeg', 'audio/wav',
    'image/png', 'image/jpeg', 'image/webp', 'application/json'])
on conflict (id) do update set
  public = excluded.public,
  file_size_limit = excluded.file_size_limit,
  allowed_mime_types = excluded.allowed_mime_types;

-- Files are written and removed by the server, or by an upload URL that it signed: there is no other policy.
create policy "own files" on storage.objects for select to authenticated using (
  bucket_id in ('generated', 'vsl_assets')
  and (storage.foldername(name))[1] = (select auth.uid())::text
);
