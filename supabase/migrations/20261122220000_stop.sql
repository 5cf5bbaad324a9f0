-- DELETE /api/generate/{id} asks for a stop, whichever instance streams; each instance asks once a second for all that
-- it streams. Who may stop what is known by the request's reservation, which has its id and its caller.
drop function public.request_stop(uuid, uuid);
drop function public.stop_requested(uuid, uuid);

create function public.request_stop(p_request_id uuid, p_caller_id uuid) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_state text;
begin
  select state into v_state from public.reservations where id = p_request_id and caller_id = p_caller_id;
  if not found then
    return null;
  elsif v_state <> 'held' then
    return 'ended';
  end if;
  insert into public.stop_requests values (p_request_id, p_caller_id) on conflict do nothing;
  return 'stopping';
end
$$;
comment on function public.request_stop is
  'stopping: its instance will see it. ended: nothing is left to stop. null: no request of this caller has this id.';

create function public.stops_among(p_request_ids uuid[] default '{}') returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('request_id', request_id, 'caller_id', user_id)), '[]')
  from public.stop_requests where request_id = any (p_request_ids)
$$;
comment on function public.stops_among is 'Which of these requests shall stop, and who says so.';

revoke all on function public.request_stop, public.stops_among from public, anon, authenticated;
grant execute on function public.request_stop, public.stops_among to service_role;
