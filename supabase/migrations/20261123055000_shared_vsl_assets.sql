-- What one letter made, another may have found by its content: then it is the other's, too.
create or replace function public.delete_vsl_job(p_user_id uuid, p_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_assets jsonb;
  v_heir uuid;
  v_asset public.assets;
begin
  delete from public.vsl_jobs
  where id = p_id and user_id = p_user_id and (finished_at is not null or lease_until is null or lease_until <= private.now());
  if not found then
    return case when exists (select from public.vsl_jobs where id = p_id and user_id = p_user_id)
      then '{"outcome": "running"}'::jsonb end;
  end if;
  v_assets := '[]';
  for v_asset in select * from public.assets where job_id = p_id and user_id = p_user_id loop
    select s.job_id into v_heir from public.vsl_steps s
    where s.user_id = p_user_id and strpos(s.result::text, v_asset.id::text) > 0 limit 1;
    if v_heir is null then
      v_assets := v_assets || to_jsonb(v_asset.id);
    else
      update public.assets set job_id = v_heir where id = v_asset.id;
    end if;
  end loop;
  return jsonb_build_object('outcome', 'deleted', 'assets', v_assets);
end
$$;
comment on function public.delete_vsl_job is
  'Removes a job and names the assets that no other uses; running: cancel it first; null for no job of theirs.';
