-- What is kept under these keys, asked for without a claim: while it is not yet known whether the caller may buy.
create function public.kept_generation(p_user_id uuid, p_keys text[]) returns jsonb
language sql stable security definer set search_path = ''
as $$ select private.stored_generation(p_user_id, p_keys) $$;
comment on function public.kept_generation is 'The assets of the first of these keys under which there are any; else null.';
revoke all on function public.kept_generation from public, anon, authenticated;
grant execute on function public.kept_generation to service_role;
