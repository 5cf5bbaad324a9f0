-- Hand what a guest did under the id of its cookie to the user whom it has become. Repeatable: what has been handed over
-- is no longer the guest's.
create function public.adopt_guest(p_guest_id uuid, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '2s'
as $$
declare
  v_events bigint;
  v_keys bigint;
  v_counter public.usage_counters;
begin
  if not exists (select from auth.users where id = p_user_id) then
    raise exception 'adopt_guest: there is no such user' using errcode = '22023';
  end if;
  if exists (select from auth.users where id = p_guest_id) then
    raise exception 'adopt_guest: a user is no guest of ours' using errcode = '22023';
  end if;
  update public.inference_events set user_id = p_user_id where user_id = p_guest_id and caller_kind = 'guest';
  get diagnostics v_events = row_count;
  -- Asked again under its new name, a request that was answered is not paid for once more.
  update public.idempotency_keys as mine set owner_id = p_user_id
  where owner_id = p_guest_id and not exists (
    select from public.idempotency_keys as other
    where other.owner_id = p_user_id and other.route = mine.route and other.key = mine.key);
  get diagnostics v_keys = row_count;
  -- A limit that a new name would renew is none. What is still held stays where it is: settle() looks for it there.
  for v_counter in
    select * from public.usage_counters
    where scope = 'guest' and subject = p_guest_id::text and day = private.today()
    for update
  loop
    insert into public.usage_counters as own (day, scope, subject, minute, minute_requests, requests, spent_microusd)
    values (v_counter.day, 'guest', p_user_id::text, v_counter.minute, v_counter.minute_requests, v_counter.requests,
      v_counter.spent_microusd)
    on conflict (day, scope, subject) do update set
      minute_requests = case
        when own.minute = excluded.minute then own.minute_requests + excluded.minute_requests
        when own.minute > excluded.minute then own.minute_requests
        else excluded.minute_requests end,
      minute = greatest(own.minute, excluded.minute),
      requests = own.requests + excluded.requests,
      spent_microusd = own.spent_microusd + excluded.spent_microusd;
    update public.usage_counters set minute_requests = 0, requests = 0, spent_microusd = 0
    where day = v_counter.day and scope = 'guest' and subject = v_counter.subject;
  end loop;
  return jsonb_build_object('events', v_events, 'idempotency_keys', v_keys);
end
$$;
comment on function public.adopt_guest is
  'Hands a guest''s events, idempotency keys and usage of today to the (anonymous) user whom it has become.';
revoke all on function public.adopt_guest from public, anon, authenticated;
grant execute on function public.adopt_guest to service_role;
