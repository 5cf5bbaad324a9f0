-- What was paid for is kept under a hash of all that went into it, and is made by one process at a time: it holds a lease,
-- notes what a vendor has taken from it, and whoever takes over looks there first.
create table public.asset_generations (
  user_id uuid not null references auth.users on delete cascade,
  key text not null check (key ~ '^[0-9a-f]{64}$'),
  holder uuid not null,
  lease_until timestamptz not null,
  vendor text,
  model text,
  vendor_request_id text,
  created_at timestamptz not null,
  primary key (user_id, key)
);
comment on table public.asset_generations is 'What is being made now, by whom, and what a vendor has taken of it already.';
create index asset_generations_lease_idx on public.asset_generations (lease_until);
alter table public.asset_generations enable row level security;
revoke all on public.asset_generations from anon, authenticated, service_role;

create function private.asset_json(p_asset public.assets) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(p_asset) || jsonb_build_object('audio', (
    select to_jsonb(a) - 'asset_id' from public.audio_assets as a where a.asset_id = (p_asset).id))
$$;

-- A generation of several files keeps them under its key, a slash and a number.
create function private.stored_generation(p_user_id uuid, p_keys text[]) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object('key', k.key, 'assets', jsonb_agg(private.asset_json(a) order by a.generation_key))
  from unnest(p_keys) with ordinality as k (key, place)
  join public.assets as a on a.user_id = p_user_id and a.state = 'ready'
    and a.generation_key = any (array[k.key || '/0', k.key || '/1', k.key || '/2', k.key || '/3'])
  group by k.key, k.place order by k.place limit 1
$$;

create function public.claim_generation(
  p_user_id uuid, p_keys text[], p_holder uuid, p_lease_s integer default 60, p_anew boolean default false
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_stored jsonb;
  v_row public.asset_generations;
begin
  if not p_anew then
    v_stored := private.stored_generation(p_user_id, p_keys);
    if v_stored is not null then
      return v_stored || '{"outcome": "stored"}';
    end if;
  end if;
  insert into public.asset_generations as g (user_id, key, holder, lease_until, created_at)
  values (p_user_id, p_keys[1], p_holder, v_now + make_interval(secs => p_lease_s), v_now)
  on conflict (user_id, key) do update set holder = p_holder, lease_until = excluded.lease_until
    where g.lease_until <= v_now
  returning * into v_row;
  if not found then
    return '{"outcome": "busy"}';
  end if;
  -- It may have been kept between the look and the lease.
  if not p_anew then
    v_stored := private.stored_generation(p_user_id, p_keys);
    if v_stored is not null then
      delete from public.asset_generations where user_id = p_user_id and key = p_keys[1] and holder = p_holder;
      return v_stored || '{"outcome": "stored"}';
    end if;
  end if;
  return jsonb_build_object('outcome', 'claimed', 'vendor', v_row.vendor, 'model', v_row.model,
    'vendor_request_id', v_row.vendor_request_id);
end
$$;
comment on function public.claim_generation is
  'stored: here is what was made before. claimed: make it, and look for the noted request first. busy: another makes it.';

create function public.note_generation(
  p_user_id uuid, p_key text, p_holder uuid, p_lease_s integer default 60,
  p_vendor text default null, p_model text default null, p_vendor_request_id text default null
) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update public.asset_generations set lease_until = private.now() + make_interval(secs => p_lease_s),
    vendor = coalesce(p_vendor, vendor), model = coalesce(p_model, model),
    vendor_request_id = coalesce(p_vendor_request_id, vendor_request_id)
  where user_id = p_user_id and key = p_key and holder = p_holder;
  return found;
end
$$;
comment on function public.note_generation is
  'Renews the lease, and notes what a vendor has taken; false where another has taken over.';

create function public.release_generation(p_user_id uuid, p_key text, p_holder uuid, p_keep_note boolean default false)
returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  if p_keep_note then
    update public.asset_generations set lease_until = private.now()
    where user_id = p_user_id and key = p_key and holder = p_holder and vendor_request_id is not null;
    if found then
      return true;
    end if;
  end if;
  delete from public.asset_generations where user_id = p_user_id and key = p_key and holder = p_holder;
  return found;
end
$$;
comment on function public.release_generation is
  'Gives the work up. With its note, where what the vendor has taken may still come to something.';

create function public.keep_assets(p_user_id uuid, p_assets jsonb, p_key text default null, p_holder uuid default null)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_given jsonb;
  v_asset public.assets;
  v_kept jsonb := '[]';
begin
  for v_given in select * from jsonb_array_elements(p_assets) loop
    -- What is made anew takes the key; the asset that had it stays.
    update public.assets set generation_key = null
    where user_id = p_user_id and generation_key = v_given ->> 'generation_key';
    insert into public.assets (
      id, user_id, kind, bucket_id, path, content_type, bytes, sha256, provider, model, generation_key, request_id,
      job_id, metadata, created_at)
    values (
      (v_given ->> 'id')::uuid, p_user_id, v_given ->> 'kind', v_given ->> 'bucket_id', v_given ->> 'path',
      v_given ->> 'content_type', (v_given ->> 'bytes')::bigint, v_given ->> 'sha256', v_given ->> 'provider',
      v_given ->> 'model', v_given ->> 'generation_key', (v_given ->> 'request_id')::uuid,
      (v_given ->> 'job_id')::uuid, coalesce(v_given -> 'metadata', '{}'), private.now())
    returning * into v_asset;
    if jsonb_typeof(v_given -> 'audio') = 'object' then
      insert into public.audio_assets (
        asset_id, voice_provider, voice_id, language, duration_ms, characters, alignment)
      select v_asset.id, r.voice_provider, r.voice_id, r.language, r.duration_ms, r.characters, r.alignment
      from jsonb_to_record(v_given -> 'audio') as r (
        voice_provider text, voice_id text, language text, duration_ms integer, characters integer, alignment jsonb);
    end if;
    v_kept := v_kept || private.asset_json(v_asset);
  end loop;
  delete from public.asset_generations where user_id = p_user_id and key = p_key and holder = p_holder;
  return v_kept;
end
$$;
comment on function public.keep_assets is
  'Rows for files that lie there already, all or none, and the end of the lease under which they were made.';

create function public.asset_of(p_user_id uuid, p_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$ select private.asset_json(a) from public.assets as a where a.id = p_id and a.user_id = p_user_id $$;
comment on function public.asset_of is 'An asset of this owner, or null.';

create function public.assets_of(
  p_user_id uuid, p_kind text default null, p_before timestamptz default null, p_before_id uuid default null,
  p_limit integer default 24
) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(private.asset_json(a) order by a.created_at desc, a.id desc), '[]') from (
    select * from public.assets
    where user_id = p_user_id and state = 'ready' and (p_kind is null or kind = p_kind)
      -- What a film was cut from belongs to its job.
      and not (metadata ? 'part')
      and (p_before is null or (created_at, id) < (p_before, p_before_id))
    order by created_at desc, id desc limit least(p_limit, 100)) as a
$$;
comment on function public.assets_of is 'An owner''s assets, the newest first, from after the one that is named.';

create function public.begin_upload(p_id uuid, p_user_id uuid, p_kind text, p_path text, p_content_type text,
  p_bytes bigint, p_metadata jsonb, p_most integer default 20) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  if (select count(*) from public.assets where user_id = p_user_id and state = 'uploading') >= p_most then
    return false;
  end if;
  insert into public.assets (id, user_id, state, kind, bucket_id, path, content_type, bytes, metadata, created_at)
  values (p_id, p_user_id, 'uploading', p_kind, 'generated', p_path, p_content_type, p_bytes, p_metadata, private.now());
  return true;
end
$$;
comment on function public.begin_upload is 'A row for a file that is on its way; false where too many are.';

create function public.complete_upload(
  p_user_id uuid, p_id uuid, p_kind text, p_path text, p_content_type text, p_bytes bigint, p_sha256 text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_asset public.assets;
begin
  update public.assets set state = 'ready', kind = p_kind, path = p_path, content_type = p_content_type,
    bytes = p_bytes, sha256 = p_sha256
  where id = p_id and user_id = p_user_id and state = 'uploading' returning * into v_asset;
  return case when v_asset.id is not null then private.asset_json(v_asset) end;
end
$$;
comment on function public.complete_upload is 'The asset, now that its file is known to be what it is; null where it is no upload.';

create function public.forget_asset(p_user_id uuid, p_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_asset public.assets;
begin
  delete from public.assets where id = p_id and user_id = p_user_id returning * into v_asset;
  if not found then
    return null;
  end if;
  return jsonb_build_object('bucket_id', v_asset.bucket_id, 'path', v_asset.path, 'was_last', not exists (
    select from public.assets where bucket_id = v_asset.bucket_id and path = v_asset.path));
end
$$;
comment on function public.forget_asset is
  'Removes the row of an asset, and says whether any other names its file; null for none of theirs.';

create function public.leftover_files(p_limit integer default 500) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_files jsonb;
begin
  delete from public.asset_generations where lease_until < v_now - interval '1 day';
  delete from public.assets where state = 'uploading' and created_at < v_now - interval '1 day';
  select coalesce(jsonb_agg(jsonb_build_object('bucket_id', f.bucket_id, 'path', f.name)), '[]') into v_files from (
    select o.bucket_id, o.name from storage.objects as o
    where o.bucket_id in ('generated', 'vsl_assets') and o.created_at < v_now - interval '1 hour'
      and not exists (select from public.assets as a where a.bucket_id = o.bucket_id and a.path = o.name)
    limit p_limit) as f;
  return v_files;
end
$$;
comment on function public.leftover_files is
  'Forgets uploads that never ended and leases long over; then the files older than an hour that no row names.';

revoke all on function public.claim_generation, public.note_generation, public.release_generation, public.keep_assets,
  public.asset_of, public.assets_of, public.begin_upload, public.complete_upload, public.forget_asset,
  public.leftover_files from public, anon, authenticated;
grant execute on function public.claim_generation, public.note_generation, public.release_generation,
  public.keep_assets, public.asset_of, public.assets_of, public.begin_upload, public.complete_upload,
  public.forget_asset, public.leftover_files to service_role;
