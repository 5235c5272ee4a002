-- The group commit: one statement for one site and one batch of reported conversions.
--
-- New conversions are recorded with the session that each one finds, and appended to the goal lists of
-- these sessions, aggregated per session. A conversion that is known already, or whose event id is, is left out of the answer;
-- its caller looks closer at it (conversions.py, settle_known). Names behind a dollar are fragments of sessions.py that
-- depend on the shape of public.user_analytics.
--
-- Locks: unique keys of new conversions in the order of the key, so that two batches wait for each other in
-- one direction only; then sessions. A session that somebody else holds is passed over (`imaged` is false)
-- and gets its goals from `put_image`: one script with a long transaction must not hold up everybody.
with item as materialized (
    select *, row_number() over (partition by event_id order by conversion_id) as told_by_event
      from json_to_recordset(%(items)s::json) as item (
           conversion_id uuid, dedup_key text, dedup_rule text, goal text, deal_id text, event_id text,
           session_id text, ym_uid text, ym_uid_low text, ym_uid_high text, yclid text, identifiers jsonb,
           value numeric, currency text, occurred_at timestamptz, received_at timestamptz,
           told_at timestamptz, webhook_id uuid, image jsonb)
), found as materialized (
    select i.*, session.session_row, session.rule
      from item i
      left join lateral ($find_session) session on true
     where i.event_id is null
        or (i.told_by_event = 1
            and not exists (select from closedloop.event e where e.site = %(site)s and e.event_id = i.event_id))
), added as (
    insert into closedloop.conversion (
           site, conversion_id, dedup_key, dedup_rule, goal, deal_id, event_id, session_id, ym_uid,
           ym_uid_low, ym_uid_high, yclid, identifiers, value, currency, occurred_at, received_at, told_at,
           state, session_row, rule, matched_at)
    select %(site)s, conversion_id, decode(dedup_key, 'hex'), dedup_rule, goal, deal_id, event_id, session_id,
           ym_uid, ym_uid_low, ym_uid_high, yclid, identifiers, value, currency, occurred_at, received_at,
           told_at, case when session_row is null then 'unmatched' else 'matched' end, session_row, rule,
           case when session_row is not null then received_at end
      from found
     order by dedup_key, conversion_id
    on conflict (site, dedup_key) do nothing
    returning conversion_id
), told as materialized (
    select found.*
      from found
      join added using (conversion_id)
), remembered as (
    insert into closedloop.event (site, event_id, conversion_id)
    select %(site)s, event_id, conversion_id
      from told
     where event_id is not null
     order by event_id
), noted as (
    insert into closedloop.journal (site, conversion_id, at, kind, webhook_id, detail)
    select %(site)s, conversion_id, received_at,
           case when session_row is null then 'unmatched' else 'matched' end, webhook_id, '{}'
      from told
), known as (
    insert into closedloop.identity (site, kind, value, session_row, seen_at)
    select distinct %(site)s, pair ->> 'kind', pair ->> 'value', session_row, received_at
      from told, jsonb_array_elements(identifiers) as pair
     where session_row is not null
    on conflict do nothing
), kept as (
    insert into closedloop.webhook (
           site, webhook_id, source, received_at, method, query, content_type, user_agent, body, outcome)
    select %(site)s, webhook_id, source, received_at, method, decode(query, 'base64'), content_type, user_agent,
           decode(body, 'base64'), outcome
      from json_to_recordset(%(webhooks)s::json) as webhook (
           webhook_id uuid, source text, received_at timestamptz, method text, query text,
           content_type text, user_agent text, body text, outcome text)
    on conflict do nothing
), waits as (
    insert into closedloop.waiting (site, kind, value, waiter_id)
    select %(site)s, identifier.kind, identifier.value, conversion_id
      from told, lateral ($identifiers) identifier
     where session_row is null
    on conflict do nothing
), delivered as (
    insert into closedloop.delivery (
           site, delivery_id, conversion_id, destination, wanted, taken, state, due_at, attempt, changed_at)
    select %(site)s, gen_random_uuid(), conversion_id, destination, 1, 0, 'due', received_at, 0, received_at
      from told, unnest(%(destinations)s::text[]) as destination
), wanted as materialized (
    select session_row, jsonb_agg(image order by conversion_id) as images
      from told
     where session_row is not null
     group by session_row
), locked as materialized (
    select u.id::text as session_row
      from public.user_analytics u
     where $site_is and u.id in (select $to_id from wanted)
     order by u.id
       for no key update skip locked
), appended as (
    update public.user_analytics u
       set analytics_data = $appended
      from wanted
      join locked on locked.session_row = wanted.session_row
     where $site_is and u.id = $to_id and $fits
    returning 1
)
select conversion_id, session_row, rule, session_row is null or locked.session_row is not null as imaged
  from told
  left join locked using (session_row)
