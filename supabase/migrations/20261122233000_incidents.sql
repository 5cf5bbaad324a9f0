-- Failures become incidents, and each incident one GitHub issue. What an incident's life does here happens in one
-- transaction each; what is to be told on GitHub follows from the row (lib/incidents/incidents.py), under a lease.
create table public.webhook_deliveries (
  source text not null check (source in ('vercel', 'github')),
  delivery_id text not null check (length(delivery_id) between 1 and 200),
  facts jsonb not null,
  received_at timestamptz not null,
  tried_at timestamptz not null,
  done_at timestamptz,
  outcome text,
  primary key (source, delivery_id),
  check ((done_at is null) = (outcome is null))
);
comment on table public.webhook_deliveries is
  'What webhooks brought, each delivery once; done_at is null until it has counted.';
create index webhook_deliveries_pending_idx on public.webhook_deliveries (received_at) where done_at is null;
alter table public.webhook_deliveries enable row level security;
revoke all on public.webhook_deliveries from anon, authenticated, service_role;
grant select on public.webhook_deliveries to service_role;

create table public.incidents (
  id bigint generated always as identity primary key,
  fingerprint text not null check (fingerprint ~ '^v[0-9]+:[0-9a-f]{16}$'),
  kind text not null,
  -- Whose recovery ends it: one subject may have incidents of several causes.
  subject text not null,
  title text not null,
  evidence jsonb not null,
  state text not null default 'open' check (state in ('open', 'resolved')),
  resolution text check (resolution in ('recovered', 'human')),
  muted boolean not null default false,
  flapping boolean not null default false,
  occurrences bigint not null check (occurrences > 0),
  first_seen timestamptz not null,
  last_seen timestamptz not null,
  opened_at timestamptz not null,
  resolved_at timestamptz,
  reopened_at timestamptz[] not null default '{}',
  -- It is told of only when it has lasted that long.
  lasting_s integer not null default 0,
  -- {"quiet_s", "successes", "provider", "model"}: when it is over by itself. Null: somebody says so.
  recovers jsonb,
  issue_number bigint,
  previous_issue bigint,
  -- What GitHub was told last.
  told text check (told in ('open', 'closed')),
  told_occurrences bigint not null default 0,
  -- When the issue's creation began. Without a number: nobody knows whether it came to be.
  attempted_at timestamptz,
  rolled_up boolean not null default false,
  lease_owner uuid,
  lease_until timestamptz,
  retry_at timestamptz,
  trouble text,
  check ((state = 'resolved') = (resolved_at is not null)),
  check ((state = 'resolved') = (resolution is not null)),
  check ((told is null) = (issue_number is null))
);
comment on table public.incidents is 'What goes wrong, counted by cause; at most one is open per fingerprint.';
create unique index incidents_open_idx on public.incidents (fingerprint) where state = 'open';
create index incidents_fingerprint_idx on public.incidents (fingerprint, id desc);
create index incidents_subject_idx on public.incidents (subject) where state = 'open';
create index incidents_attempted_idx on public.incidents (attempted_at);
alter table public.incidents enable row level security;
revoke all on public.incidents from anon, authenticated, service_role;
grant select on public.incidents to service_role;

create table private.recoveries (
  subject text primary key,
  at timestamptz not null
);
comment on table private.recoveries is 'Until when a subject is known to be well: what failed before that opens nothing.';
alter table private.recoveries enable row level security;

create table private.turns (
  job text primary key,
  at timestamptz not null
);
comment on table private.turns is 'When a job that rides on traffic was last done, on whichever instance.';
alter table private.turns enable row level security;

create function public.accept_delivery(p_source text, p_delivery_id text, p_facts jsonb) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
begin
  insert into public.webhook_deliveries (source, delivery_id, facts, received_at, tried_at)
  values (p_source, p_delivery_id, p_facts, v_now, v_now)
  on conflict do nothing;
  if found then
    return 'accepted';
  end if;
  -- Who took it seems to have died on the way.
  update public.webhook_deliveries set tried_at = v_now
  where source = p_source and delivery_id = p_delivery_id and done_at is null
    and tried_at < v_now - interval '60 seconds';
  return case when found then 'again' else 'duplicate' end;
end
$$;
comment on function public.accept_delivery is
  'accepted: keep on with it. duplicate: it is here already. again: it is, but whoever took it never finished.';

create function public.pending_deliveries(p_limit integer default 20) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_taken jsonb;
begin
  with pending as (
    select source, delivery_id from public.webhook_deliveries
    where done_at is null and tried_at < v_now - interval '60 seconds'
    order by received_at limit p_limit for update skip locked
  ), taken as (
    update public.webhook_deliveries d set tried_at = v_now
    from pending p where d.source = p.source and d.delivery_id = p.delivery_id
    returning d.*
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'source', source, 'delivery_id', delivery_id, 'facts', facts) order by received_at), '[]')
  into v_taken from taken;
  return v_taken;
end
$$;
comment on function public.pending_deliveries is
  'Deliveries that nobody has finished for a minute; who gets them here has another minute.';

create function private.finish_delivery(p_source text, p_delivery_id text, p_outcome text) returns boolean
language plpgsql set search_path = ''
as $$
begin
  if p_delivery_id is null then
    return true;
  end if;
  update public.webhook_deliveries set done_at = private.now(), outcome = p_outcome
  where source = p_source and delivery_id = p_delivery_id and done_at is null;
  return found;
end
$$;

create function public.observe_incident(
  p_fingerprint text, p_kind text, p_subject text, p_title text, p_evidence jsonb, p_at timestamptz default null,
  p_count integer default 1, p_lasting_s integer default 0, p_recovers jsonb default null,
  p_source text default null, p_delivery_id text default null
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  -- A clock that runs ahead must not outlive every recovery.
  v_at timestamptz := least(coalesce(p_at, v_now), v_now);
  v_row public.incidents;
  v_outcome text;
begin
  -- In the order of their locks: what recovers a subject waits for what fails in it.
  perform pg_advisory_xact_lock(hashtextextended('incident ' || p_subject, 0));
  select * into v_row from public.incidents where fingerprint = p_fingerprint
  order by (state = 'open') desc, id desc limit 1 for update;
  if exists (select from private.recoveries where subject = p_subject and at >= v_at) then
    v_outcome := 'stale';
  elsif v_row.id is null
    or (v_row.state = 'resolved' and not v_row.muted and v_row.resolved_at < v_now - interval '30 days')
  then
    v_outcome := 'opened';
  elsif v_row.state = 'open' or v_row.muted
    -- Who closed it knows of what is on its way.
    or (v_row.resolution = 'human' and v_at <= v_row.resolved_at + interval '10 minutes')
  then
    v_outcome := 'counted';
  else
    v_outcome := 'reopened';
  end if;
  if not private.finish_delivery(p_source, p_delivery_id, v_outcome) then
    return '{"outcome": "duplicate"}';
  elsif v_outcome = 'stale' then
    return '{"outcome": "stale"}';
  elsif v_outcome = 'opened' then
    insert into public.incidents (fingerprint, kind, subject, title, evidence, occurrences, first_seen, last_seen,
      opened_at, lasting_s, recovers, previous_issue)
    values (p_fingerprint, p_kind, p_subject, p_title, p_evidence, p_count, v_at, v_at, v_now, p_lasting_s, p_recovers,
      v_row.issue_number)
    returning * into v_row;
    return jsonb_build_object('outcome', v_outcome, 'incident', to_jsonb(v_row));
  end if;
  update public.incidents set
    occurrences = occurrences + p_count,
    evidence = case when v_at >= last_seen then p_evidence else evidence end,
    first_seen = case when v_outcome = 'reopened' and told is null then v_at else least(first_seen, v_at) end,
    last_seen = greatest(last_seen, v_at)
  where id = v_row.id returning * into v_row;
  if v_outcome = 'reopened' then
    update public.incidents set
      state = 'open', resolution = null, resolved_at = null, opened_at = v_now,
      reopened_at = array(select t from unnest(v_row.reopened_at) t where t > v_now - interval '24 hours') || v_now
    where id = v_row.id returning * into v_row;
    -- What comes back for the third time within a day is not over because it is well for a moment.
    update public.incidents set flapping = flapping or cardinality(reopened_at) >= 3
    where id = v_row.id returning * into v_row;
  end if;
  return jsonb_build_object('outcome', v_outcome, 'incident', to_jsonb(v_row),
    'leased', coalesce(v_row.lease_until > v_now, false));
end
$$;
comment on function public.observe_incident is
  'Counts a failure by its cause. stale: the subject was well since. duplicate: the delivery had counted before. '
  'leased: somebody tells GitHub just now, and will see this.';

create function public.resolve_incidents(
  p_subject text, p_at timestamptz default null, p_source text default null, p_delivery_id text default null
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_at timestamptz := least(coalesce(p_at, v_now), v_now);
  v_ids jsonb;
begin
  perform pg_advisory_xact_lock(hashtextextended('incident ' || p_subject, 0));
  if not private.finish_delivery(p_source, p_delivery_id, 'recovery') then
    return '{"outcome": "duplicate", "ids": []}';
  end if;
  insert into private.recoveries values (p_subject, v_at)
  on conflict (subject) do update set at = greatest(recoveries.at, excluded.at);
  with resolved as (
    update public.incidents set state = 'resolved', resolution = 'recovered', resolved_at = v_now
    where subject = p_subject and state = 'open' and last_seen <= v_at and not flapping
    returning id
  )
  select coalesce(jsonb_agg(id), '[]') into v_ids from resolved;
  return jsonb_build_object('outcome', 'recovered', 'ids', v_ids);
end
$$;
comment on function public.resolve_incidents is
  'The subject was well at this time: ends its incidents that were not seen since. Those that flap end by hand alone.';

create function public.recover_incidents() returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_ids jsonb;
begin
  with over as (
    select i.id from public.incidents i
    where i.state = 'open' and i.recovers is not null and not i.flapping
      and i.last_seen <= v_now - make_interval(secs => (i.recovers ->> 'quiet_s')::double precision)
      and coalesce((i.recovers ->> 'successes')::bigint, 0) <= (
        select count(*) from (
          select from public.inference_events e
          where e.created_at > i.last_seen and e.outcome = 'ok'
            and (i.recovers ->> 'provider' is null or e.provider = i.recovers ->> 'provider')
            and (i.recovers ->> 'model' is null or e.model = i.recovers ->> 'model')
          limit 1000) as since)
    for update of i skip locked
  ), resolved as (
    update public.incidents i set state = 'resolved', resolution = 'recovered', resolved_at = v_now
    from over where i.id = over.id
    returning i.id
  )
  select coalesce(jsonb_agg(id), '[]') into v_ids from resolved;
  return v_ids;
end
$$;
comment on function public.recover_incidents is
  'Ends incidents that are over by themselves: quiet for long enough, and as many calls as they ask for went well since.';

create function public.claim_incident(
  p_id bigint, p_owner uuid, p_creates boolean, p_lease_s integer default 90, p_created_per_hour integer default 10
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_old public.incidents;
  v_row public.incidents;
begin
  if p_creates then
    perform pg_advisory_xact_lock(hashtextextended('incidents to create', 0));
  end if;
  select * into v_old from public.incidents where id = p_id for update;
  if v_old.id is null or v_old.lease_until > v_now or v_old.retry_at > v_now then
    return '{"outcome": "busy"}';
  elsif p_creates and v_old.issue_number is null and v_old.attempted_at is null and v_old.kind <> 'rollup' and (
    select count(*) from public.incidents
    where attempted_at > v_now - interval '1 hour' and kind <> 'rollup') >= p_created_per_hour
  then
    update public.incidents set rolled_up = true where id = p_id;
    return jsonb_build_object('outcome', 'capped', 'first', not v_old.rolled_up);
  end if;
  update public.incidents set
    lease_owner = p_owner, lease_until = v_now + make_interval(secs => p_lease_s), retry_at = null,
    attempted_at = case when p_creates then v_now else attempted_at end
  where id = p_id returning * into v_row;
  return jsonb_build_object('outcome', 'claimed', 'incident', to_jsonb(v_row),
    -- Somebody may have created it and died before writing the number down.
    'look_first', v_old.attempted_at is not null);
end
$$;
comment on function public.claim_incident is
  'The right to tell GitHub of an incident for the time of a lease. capped: enough issues were created within the hour.';

create function public.record_incident(p_id bigint, p_owner uuid, p_changes jsonb, p_release boolean default true)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_row public.incidents;
  v_is_ours boolean;
begin
  select * into v_row from public.incidents where id = p_id for update;
  v_is_ours := v_row.lease_owner is not distinct from p_owner;
  -- An issue's number is never lost, however late it comes.
  if v_row.id is null
    or not (v_is_ours or (v_row.issue_number is null and p_changes ->> 'issue_number' is not null))
  then
    return null;
  end if;
  update public.incidents set
    issue_number = coalesce((p_changes ->> 'issue_number')::bigint, issue_number),
    told = coalesce(p_changes ->> 'told', told),
    told_occurrences = greatest(told_occurrences, (p_changes ->> 'told_occurrences')::bigint),
    muted = coalesce((p_changes ->> 'muted')::boolean, muted),
    attempted_at = case
      when p_changes ? 'attempted_at' then (p_changes ->> 'attempted_at')::timestamptz else attempted_at end,
    trouble = case when p_changes ? 'trouble' then p_changes ->> 'trouble' else trouble end,
    retry_at = v_now + make_interval(secs => (p_changes ->> 'retry_after_s')::double precision),
    lease_owner = case when p_release and v_is_ours then null else lease_owner end,
    lease_until = case when p_release and v_is_ours then null else lease_until end
  where id = p_id returning * into v_row;
  return to_jsonb(v_row);
end
$$;
comment on function public.record_incident is
  'Writes down what GitHub was told, and gives the lease back; null where another has it. Returns the row as it is then.';

create function public.human_on_incident(p_id bigint, p_state text, p_muted boolean) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_row public.incidents;
begin
  select * into v_row from public.incidents where id = p_id for update;
  if v_row.told = p_state and v_row.muted = p_muted then
    return to_jsonb(v_row);
  elsif p_state = 'closed' then
    update public.incidents set
      state = 'resolved', resolved_at = coalesce(resolved_at, v_now), resolution = coalesce(resolution, 'human'),
      told = 'closed', muted = p_muted, flapping = false
    where id = p_id returning * into v_row;
  elsif v_row.state = 'resolved' and exists (
    select from public.incidents where fingerprint = v_row.fingerprint and state = 'open')
  then
    update public.incidents set told = 'open', muted = p_muted where id = p_id returning * into v_row;
  elsif v_row.told = 'closed' then
    -- Who reopens an issue wants to see it open: it ends by hand.
    update public.incidents set
      state = 'open', resolved_at = null, resolution = null, opened_at = v_now, told = 'open', muted = p_muted,
      flapping = flapping or state = 'resolved'
    where id = p_id returning * into v_row;
  else
    update public.incidents set muted = p_muted where id = p_id returning * into v_row;
  end if;
  return to_jsonb(v_row);
end
$$;
comment on function public.human_on_incident is 'Takes over what people did to the issue: closed, reopened, muted.';

create function public.incidents_to_settle(p_limit integer default 200) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(i) order by i.id), '[]') from (
    select * from public.incidents
    where state = 'open' or told = 'open' or (attempted_at is not null and issue_number is null)
      -- A second issue may show up late, when all is over.
      or attempted_at > private.now() - interval '1 hour'
    order by id limit p_limit) i
$$;
comment on function public.incidents_to_settle is 'Incidents of which GitHub may have something to hear.';

create function public.incident_of(p_fingerprint text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select to_jsonb(i) from public.incidents i where fingerprint = p_fingerprint
  order by (state = 'open') desc, id desc limit 1
$$;

create function public.take_turn(p_job text, p_every_s integer) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
begin
  insert into private.turns values (p_job, v_now)
  on conflict (job) do update set at = v_now where turns.at <= v_now - make_interval(secs => p_every_s);
  return found;
end
$$;
comment on function public.take_turn is 'Whether this job is due; true for one caller per time.';

create function public.applied_migrations() returns text[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  if to_regclass('supabase_migrations.schema_migrations') is null then
    return null;
  end if;
  return array(select version from supabase_migrations.schema_migrations order by version);
end
$$;
comment on function public.applied_migrations is 'The versions that this database has recorded; null where it records none.';

create function public.operations_report() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    'cron', (select to_jsonb(c) from public.cron_runs c where outcome <> 'running' order by started_at desc limit 1),
    'deliveries_pending', (select count(*) from public.webhook_deliveries where done_at is null),
    'incidents', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'fingerprint', fingerprint, 'kind', kind, 'title', title, 'state', state, 'muted', muted, 'flapping', flapping,
        'occurrences', occurrences, 'first_seen', first_seen, 'last_seen', last_seen, 'issue_number', issue_number,
        'trouble', trouble) order by last_seen desc), '[]')
      from (select * from public.incidents where state = 'open' order by last_seen desc limit 50) i))
$$;
comment on function public.operations_report is
  'The last cron run, the open incidents and how many deliveries wait, for operators.';

insert into private.retention values ('webhook_deliveries', interval '30 days'), ('incidents', interval '400 days');

create function public.prune_incidents() returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_deliveries bigint;
  v_incidents bigint;
begin
  delete from public.webhook_deliveries where received_at < v_now - private.keep('webhook_deliveries');
  get diagnostics v_deliveries = row_count;
  delete from public.incidents
  where state = 'resolved' and not muted and last_seen < v_now - private.keep('incidents');
  get diagnostics v_incidents = row_count;
  return jsonb_build_object('webhook_deliveries', v_deliveries, 'incidents', v_incidents);
end
$$;
comment on function public.prune_incidents is 'Removes what is older than private.retention says; what is muted stays.';

revoke all on function public.accept_delivery, public.pending_deliveries,
  public.observe_incident, public.resolve_incidents, public.recover_incidents, public.claim_incident,
  public.record_incident, public.human_on_incident, public.incidents_to_settle, public.incident_of, public.take_turn,
  public.applied_migrations, public.operations_report, public.prune_incidents from public, anon, authenticated;
grant execute on function public.accept_delivery, public.pending_deliveries,
  public.observe_incident, public.resolve_incidents, public.recover_incidents, public.claim_incident,
  public.record_incident, public.human_on_incident, public.incidents_to_settle, public.incident_of, public.take_turn,
  public.applied_migrations, public.operations_report, public.prune_incidents to service_role;
