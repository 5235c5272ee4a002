-- Hits: one statement for one site and one batch, one row for each session (hits.py).
--
-- A session that has no row yet gets one; what a hit adds to a row is merged into it. Facts have names, so a
-- hit that is told twice, late or out of order changes nothing the second time, and goals that the CRM has
-- appended meanwhile stay: the document is read under the lock under which it is written.
--
-- Locks: session_made in the order of the ids, so that of two processes that see a visitor first one makes
-- the row and the other comes `again`; then rows of sessions. A row that somebody else holds is passed over
-- and comes `again`, too. Names behind a dollar are fragments of sessions.py.
with i as materialized (
    select *
      from json_to_recordset(%(hits)s::json) as hit (
           session_id text, visitor text, began_at timestamptz, received_at timestamptz, ids jsonb,
           visit jsonb, goals jsonb, known jsonb, withdrawn boolean)
), found as materialized (
    select i.session_id, session.id
      from i
     cross join lateral (
           select u.id
             from public.user_analytics u
            where $site_is and $session_id
            order by u."timestamp" desc nulls last
            limit 1) session
), made as (
    insert into closedloop.session_made (site, session_id, made_at)
    select %(site)s, session_id, received_at
      from i
     where not withdrawn and not exists (select from found where found.session_id = i.session_id)
     order by session_id
    on conflict (site, session_id) do update
       set made_at = excluded.made_at
     where session_made.made_at < excluded.made_at - interval '1 minute'
    returning session_id
), added as (
    insert into public.user_analytics ($site_column session_id, "timestamp", analytics_data)
    select $site_value $new_session_id, i.began_at, jsonb_build_object(
           'ids', i.ids,
           'visit', i.visit,
           'target_actions', jsonb_build_object(
               'conversion_flag', i.goals <> '[]', 'yandex_goals_triggered', i.goals))$as_data
      from i
      join made using (session_id)
    returning session_id::text, id::text as session_row
), locked as materialized (
    select found.session_id, u.id, $visit_document as document
      from found
      join public.user_analytics u
        on u.id = found.id
     where $site_is
     order by u.id
       for no key update of u skip locked
), judged as materialized (
    select locked.*, visit_of.visit as old_visit, list.goals as old_goals,
           case when $document_is_odd then 'odd'
                when old_visit.told ->> 'consent' = 'withdrawn' then 'withdrawn'
                when coalesce(document #>> '{ids,user_id}', i.visitor) <> i.visitor then 'foreign'
                when octet_length(old_visit.told::text) > %(max_bytes)s and not i.withdrawn then 'full'
                else 'merged' end as outcome
      from locked
      join i using (session_id)
     cross join lateral (select document -> 'visit' as told) old_visit
     cross join lateral (
           select case when jsonb_typeof(old_visit.told) = 'object' then old_visit.told else '{}' end as visit
           ) visit_of
     cross join lateral (
           select coalesce(nullif(document #> '{target_actions,yandex_goals_triggered}', 'null'), '[]') as goals
           ) list
), merged as materialized (
    select judged.session_id, judged.id, judged.document as old_document,
           coalesce(nullif(judged.document, 'null'), '{}')
           || jsonb_build_object(
              'ids', case when i.withdrawn then i.ids
                          else i.ids || jsonb_strip_nulls(coalesce(nullif(document -> 'ids', 'null'), '{}')) end,
              'visit', case when i.withdrawn then i.visit
                            else i.visit || old_visit || jsonb_build_object(
                                 'touches', coalesce(old_visit -> 'touches', '{}') || (i.visit -> 'touches'),
                                 'pages', coalesce(old_visit -> 'pages', '{}') || (i.visit -> 'pages'),
                                 'seconds', coalesce(old_visit -> 'seconds', '{}') || (i.visit -> 'seconds'),
                                 'forms', coalesce(old_visit -> 'forms', '{}') || (i.visit -> 'forms'))
                                 || case when i.visit ? 'last_touch'
                                         then jsonb_build_object('last_touch', i.visit -> 'last_touch')
                                         else '{}' end end)
           || case when fresh.goals is null then '{}'
                   else jsonb_build_object(
                        'target_actions', coalesce(nullif(document -> 'target_actions', 'null'), '{}')
                        || jsonb_build_object(
                           'conversion_flag', true,
                           'yandex_goals_triggered', old_goals || fresh.goals)) end as document
      from judged
      join i using (session_id)
     cross join lateral (
           select jsonb_agg(goal.value order by goal.place) as goals
             from jsonb_array_elements(i.goals) with ordinality as goal (value, place)
            where not old_goals @> jsonb_build_array(jsonb_build_object('hit', goal.value -> 'hit'))) fresh
     where outcome = 'merged'
), kept as (
    update public.user_analytics u
       set analytics_data = merged.document$as_data
      from merged
     where $site_is and u.id = merged.id and merged.document is distinct from merged.old_document
), known as (
    insert into closedloop.identity (site, kind, value, session_row, seen_at)
    select distinct %(site)s, pair.key, pair.value, session_row, i.received_at
      from (select session_id, session_row from added
             union all
            select session_id, id::text from merged) stored
      join i using (session_id)
     cross join lateral jsonb_each_text(i.known) as pair
    on conflict do nothing
)
select i.session_id, case when added.session_id is not null then 'made'
                          when judged.session_id is not null then judged.outcome
                          when i.withdrawn and found.session_id is null then 'withdrawn'
                          else 'again' end as outcome
  from i
  left join found using (session_id)
  left join added using (session_id)
  left join judged using (session_id)
