-- What was paid for is kept under a hash of all that went into it. One process at a time makes it, under a lease, and
-- notes what a vendor has taken: who takes over from a process that died asks for that before anything is paid again.
create table public.asset_generations (
  user_id uuid not null references auth.users on delete cascade,
  key text not null check (key ~ '^[0-9a-f]{64}$'),
  holder uuid not null,
  lease_until timestamptz not null,
  vendor text,
  model text,
  vendor_request_id text,
  failure jsonb,
  created_at timestamptz not null,
  primary key (user_id, key)
);
comment on table public.asset_generations is
  'What is being made: who is at it until when, what a vendor has taken of it, how the last attempt failed.';
create index asset_generations_lease_idx on public.asset_generations (lease_until);
alter table public.asset_generations enable row level security;
revoke all on public.asset_generations from anon, authenticated, service_role;

-- A generation may be several files: all of them are its assets, or none.
alter table public.assets
  add column generation_index smallint not null default 0 check (generation_index >= 0),
  -- The signed address that all instances hand out, below /storage/v1: caches know it again.
  add column link_path text,
  add column link_expires_at timestamptz,
  add check ((link_path is null) = (link_expires_at is null)),
  drop constraint assets_user_id_generation_key_key,
  add constraint assets_generation_key unique (user_id, generation_key, generation_index);

create function private.asset_json(p_asset public.assets) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(p_asset) || jsonb_build_object(
    'audio', (select to_jsonb(audio) - 'asset_id' from public.audio_assets as audio where asset_id = p_asset.id))
$$;

create function private.stored_generation(p_user_id uuid, p_keys text[]) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_agg(private.asset_json(stored) order by stored.generation_index)
  from unnest(p_keys) with ordinality as wanted (key, place)
  join public.assets as stored on stored.user_id = p_user_id and stored.generation_key = wanted.key
  group by wanted.place order by wanted.place limit 1
$$;

create function private.is_lost(p_asset public.assets) returns boolean
language sql stable set search_path = ''
as $$
  select not exists (select from storage.objects where bucket_id = p_asset.bucket_id and name = p_asset.path)
$$;

create function public.claim_generation(
  p_user_id uuid, p_keys text[], p_holder uuid, p_seen uuid default null, p_lease_s integer default 60,
  p_anew boolean default false
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
      return jsonb_build_object('outcome', 'stored', 'assets', v_stored);
    end if;
  end if;
  insert into public.asset_generations (user_id, key, holder, lease_until, created_at)
  values (p_user_id, p_keys[1], p_holder, v_now + make_interval(secs => p_lease_s), v_now)
  on conflict do nothing;
  select * into v_row from public.asset_generations where user_id = p_user_id and key = p_keys[1] for update;
  -- It may have been kept since we looked: its rows come, and its lease goes, at once.
  if not p_anew then
    v_stored := private.stored_generation(p_user_id, p_keys);
  end if;
  if v_stored is not null then
    delete from public.asset_generations where user_id = p_user_id and key = p_keys[1] and holder = p_holder;
    return jsonb_build_object('outcome', 'stored', 'assets', v_stored);
  elsif v_row.holder is null then
    return jsonb_build_object('outcome', 'busy', 'holder', p_seen); -- it was given up just now: ask again
  elsif v_row.holder <> p_holder then
    if v_row.failure is not null and v_row.holder = p_seen then
      return jsonb_build_object('outcome', 'failed', 'failure', v_row.failure);
    elsif v_row.lease_until > v_now then
      return jsonb_build_object('outcome', 'busy', 'holder', v_row.holder);
    end if;
    update public.asset_generations
    set holder = p_holder, lease_until = v_now + make_interval(secs => p_lease_s), failure = null
    where user_id = p_user_id and key = p_keys[1];
  end if;
  return jsonb_build_object('outcome', 'claimed', 'vendor', v_row.vendor, 'model', v_row.model,
    'vendor_request_id', v_row.vendor_request_id);
end
$$;
comment on function public.claim_generation is
  'stored: here it is. claimed: make it; what is noted comes first. busy: another is at it. failed: why p_seen failed.';

create function public.note_generation(
  p_user_id uuid, p_key text, p_holder uuid, p_lease_s integer default 60,
  p_vendor text default null, p_model text default null, p_vendor_request_id text default null
) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update public.asset_generations set
    lease_until = private.now() + make_interval(secs => p_lease_s),
    vendor = case when p_vendor_request_id is null then vendor else p_vendor end,
    model = case when p_vendor_request_id is null then model else p_model end,
    vendor_request_id = coalesce(p_vendor_request_id, vendor_request_id)
  where user_id = p_user_id and key = p_key and holder = p_holder;
  return found;
end
$$;
comment on function public.note_generation is
  'Prolongs the lease, and notes the request that a vendor has taken; false where another has taken over.';

create function public.fail_generation(
  p_user_id uuid, p_key text, p_holder uuid, p_failure jsonb default null, p_keep_note boolean default false
) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  if p_failure is null then
    delete from public.asset_generations where user_id = p_user_id and key = p_key and holder = p_holder;
    return found;
  end if;
  update public.asset_generations set
    lease_until = private.now(),
    failure = p_failure,
    vendor = case when p_keep_note then vendor end,
    model = case when p_keep_note then model end,
    vendor_request_id = case when p_keep_note then vendor_request_id end
  where user_id = p_user_id and key = p_key and holder = p_holder;
  return found;
end
$$;
comment on function public.fail_generation is
  'Gives it up. Who waits gets the failure; without one the next who waits takes over.';

create function public.keep_assets(
  p_user_id uuid, p_assets jsonb, p_made_key text default null, p_key text default null, p_holder uuid default null,
  p_anew boolean default false
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_kept jsonb;
  v_asset public.assets;
  v_given record;
begin
  if p_made_key is not null then
    perform pg_advisory_xact_lock(hashtextextended(p_user_id || p_made_key, 0));
  end if;
  -- Asked once more, because the answer was lost: they are there.
  select jsonb_agg(private.asset_json(a) order by a.generation_index) into v_kept from public.assets as a
  where user_id = p_user_id and id in (select (value ->> 'id')::uuid from jsonb_array_elements(p_assets));
  if v_kept is null and p_anew then
    update public.assets set generation_key = null, generation_index = 0
    where user_id = p_user_id and generation_key = p_made_key;
  elsif v_kept is null then
    v_kept := private.stored_generation(p_user_id, array[p_made_key]);
  end if;
  if v_kept is null then
    v_kept := '[]';
    for v_given in select value as asset, ordinality - 1 as index from jsonb_array_elements(p_assets) with ordinality
    loop
      v_asset := jsonb_populate_record(null::public.assets, v_given.asset);
      v_asset.user_id := p_user_id;
      v_asset.state := 'ready';
      v_asset.metadata := coalesce(v_asset.metadata, '{}');
      v_asset.generation_key := p_made_key;
      v_asset.generation_index := case when p_made_key is null then 0 else v_given.index end;
      v_asset.created_at := private.now();
      if private.is_lost(v_asset) then
        return null;
      end if;
      insert into public.assets values (v_asset.*) returning * into v_asset;
      if jsonb_typeof(v_given.asset -> 'audio') = 'object' then
        insert into public.audio_assets
        select (jsonb_populate_record(null::public.audio_assets,
          v_given.asset -> 'audio' || jsonb_build_object('asset_id', v_asset.id))).*;
      end if;
      v_kept := v_kept || private.asset_json(v_asset);
    end loop;
  end if;
  delete from public.asset_generations where user_id = p_user_id and key = p_key and holder = p_holder;
  return v_kept;
end
$$;
comment on function public.keep_assets is
  'Rows for files, all or none, and the end of the lease; or what the key has already. Null where a file is gone.';

create function public.asset_of(p_user_id uuid, p_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$ select private.asset_json(a) from public.assets as a where id = p_id and user_id = p_user_id $$;
comment on function public.asset_of is 'An asset of this owner, or null.';

create function public.assets_of(
  p_user_id uuid, p_kind text default null, p_before timestamptz default null, p_before_id uuid default null,
  p_limit integer default 24
) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(private.asset_json(a) order by a.created_at desc, a.id), '[]')
  from (
    select * from public.assets
    where user_id = p_user_id and state = 'ready' and (p_kind is null or kind = p_kind)
      and (p_before is null or created_at < p_before or (created_at = p_before and id > p_before_id))
    order by created_at desc, id limit p_limit) as a
$$;
comment on function public.assets_of is 'An owner''s assets, the newest first, from after the one of this time and id.';

create function public.keep_links(p_links jsonb, p_expires_at timestamptz, p_reuse_s integer) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  update public.assets as a set link_path = given.path, link_expires_at = p_expires_at
  from jsonb_to_recordset(p_links) as given (id uuid, path text)
  where a.id = given.id
    and (a.link_expires_at is null or a.link_expires_at < private.now() + make_interval(secs => p_reuse_s));
  return (
    select coalesce(jsonb_agg(private.asset_json(a)), '[]') from public.assets as a
    where id in (select (value ->> 'id')::uuid from jsonb_array_elements(p_links)));
end
$$;
comment on function public.keep_links is
  'Keeps signed addresses, but where another still holds for so long; returns the assets, with those that count.';

create function public.begin_upload(
  p_user_id uuid, p_id uuid, p_kind text, p_path text, p_content_type text, p_bytes bigint, p_metadata jsonb,
  p_max_open integer, p_max_bytes bigint
) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_open bigint;
  v_bytes bigint;
begin
  perform pg_advisory_xact_lock(hashtextextended('upload ' || p_user_id, 0));
  select count(*) filter (where state = 'uploading'), coalesce(sum(bytes), 0) into v_open, v_bytes
  from public.assets where user_id = p_user_id;
  if v_open >= p_max_open then
    return 'too_many';
  elsif v_bytes + p_bytes > p_max_bytes then
    return 'full';
  end if;
  insert into public.assets (id, user_id, state, kind, bucket_id, path, content_type, bytes, metadata, created_at)
  values (
    p_id, p_user_id, 'uploading', p_kind, 'generated', p_path, p_content_type, p_bytes, p_metadata, private.now());
  return 'begun';
end
$$;
comment on function public.begin_upload is
  'begun: its file may come. too_many: that many uploads are open. full: the owner has that much already.';

create function public.complete_upload(p_user_id uuid, p_id uuid, p_path text, p_bytes bigint, p_sha256 text)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_asset public.assets;
begin
  select * into v_asset from public.assets where id = p_id and user_id = p_user_id for update;
  if v_asset.state = 'uploading' then
    update public.assets set state = 'ready', path = p_path, bytes = p_bytes, sha256 = p_sha256
    where id = p_id returning * into v_asset;
  end if;
  return case when v_asset.id is not null then private.asset_json(v_asset) end;
end
$$;
comment on function public.complete_upload is 'The asset, whose file was looked at; null where there is none.';

create function public.remove_asset(p_user_id uuid, p_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_asset public.assets;
begin
  delete from public.assets where id = p_id and user_id = p_user_id returning * into v_asset;
  if not found then
    return null;
  end if;
  -- The rest of a generation is not what was asked for then.
  update public.assets set generation_key = null, generation_index = 0
  where user_id = p_user_id and generation_key = v_asset.generation_key;
  return jsonb_build_object('bucket_id', v_asset.bucket_id, 'path', v_asset.path, 'is_last', not exists (
    select from public.assets where bucket_id = v_asset.bucket_id and path = v_asset.path));
end
$$;
comment on function public.remove_asset is
  'Removes a row; is_last says that its file is nobody''s now. Null where this owner has no such asset.';

create function public.forget_lost_assets(p_bucket_id text default null, p_path text default null) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
  v_lost bigint;
begin
  with lost as (
    delete from public.assets as a
    where state = 'ready' and private.is_lost(a)
      and (p_path is null or (bucket_id = p_bucket_id and path = p_path))
    returning *
  ), rest as (
    update public.assets as a set generation_key = null, generation_index = 0
    from (select user_id, generation_key, array_agg(id) as ids from lost group by 1, 2) as gone
    where a.user_id = gone.user_id and a.generation_key = gone.generation_key and a.id <> all (gone.ids)
  )
  select count(*) into v_lost from lost;
  return v_lost;
end
$$;
comment on function public.forget_lost_assets is 'Removes assets whose file is gone, all of them or those of one file.';

create function public.sweep_assets(p_limit integer default 500) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_leases bigint;
  v_uploads bigint;
  v_files jsonb;
begin
  delete from public.asset_generations where lease_until < v_now - interval '1 day';
  get diagnostics v_leases = row_count;
  -- What is signed for an upload holds for two hours.
  delete from public.assets where state = 'uploading' and created_at < v_now - interval '3 hours';
  get diagnostics v_uploads = row_count;
  -- Its row comes after a file. Stored once more it is new again.
  select coalesce(jsonb_agg(jsonb_build_object('bucket_id', bucket_id, 'path', name)), '[]') into v_files from (
    select bucket_id, name from storage.objects as file
    where bucket_id in ('generated', 'vsl_assets') and updated_at < v_now - interval '3 hours'
      and not exists (select from public.assets where bucket_id = file.bucket_id and path = file.name)
    order by updated_at limit p_limit) as leftover;
  return jsonb_build_object(
    'leases', v_leases, 'uploads', v_uploads, 'lost', public.forget_lost_assets(), 'files', v_files);
end
$$;
comment on function public.sweep_assets is
  'Removes leases long over, uploads never completed, assets without a file; returns how many, and leftover files.';

revoke all on function public.claim_generation, public.note_generation, public.fail_generation, public.keep_assets,
  public.asset_of, public.assets_of, public.keep_links, public.begin_upload, public.complete_upload,
  public.remove_asset, public.forget_lost_assets, public.sweep_assets from public, anon, authenticated;
grant execute on function public.claim_generation, public.note_generation, public.fail_generation,
  public.keep_assets, public.asset_of, public.assets_of, public.keep_links, public.begin_upload,
  public.complete_upload, public.remove_asset, public.forget_lost_assets, public.sweep_assets to service_role;
