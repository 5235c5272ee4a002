-- For pgbench: what one hit needs, by hand, in one transaction: find the session and merge the page view into
-- its document, or make its row; nine known sessions to one new one, as in hit.lua.
\set number random(1, :sessions)
\set view random(1, 1000000000000000000)
\set kind random(1, 10)
begin;
\if :kind = 10
with told as (
    select 'v' || :view::bigint as name,
           jsonb_build_object('url', 'https://shop.example/catalogue/' || :view::bigint % 900 || '?utm_source=yandex',
                              'referrer', '', 'at', '2026-11-24T10:00:00.000Z') as at,
           '{"title": "Catalogue"}'::jsonb as titled, '{"marks": {"utm_source": "yandex"}}'::jsonb as marked
)
insert into public.user_analytics (site, session_id, "timestamp", analytics_data)
select 'default', 'new-' || :view::bigint, now(), jsonb_build_object(
       'ids', jsonb_build_object('session_id', 'new-' || :view::bigint, 'user_id', 'visitor-' || :view::bigint,
                                 'ym_uid', '1712345678901234567'),
       'visit', jsonb_build_object('version', 1,
                'touches', jsonb_build_object(name, at || marked), 'pages', jsonb_build_object(name, at || titled),
                'seconds', jsonb_build_object(name || '.0', 0.4), 'forms', '{}'::jsonb),
       'target_actions', '{"conversion_flag": false, "yandex_goals_triggered": []}'::jsonb)
  from told;
\else
select u.id as session_row
  from public.user_analytics u
 where u.site = 'default'
   and u.session_id collate "C"
       = lpad(to_hex((:number::bigint * 618033989) % 4294967296), 8, '0') || '-' || :number::bigint
 order by u."timestamp" desc nulls last
 limit 1
\gset
with told as (
    select 'v' || :view::bigint as name,
           jsonb_build_object('url', 'https://shop.example/catalogue/' || :view::bigint % 900 || '?utm_source=yandex',
                              'referrer', '', 'at', '2026-11-24T10:00:00.000Z') as at,
           '{"title": "Catalogue"}'::jsonb as titled, '{"marks": {"utm_source": "yandex"}}'::jsonb as marked
)
update public.user_analytics u
   set analytics_data = u.analytics_data || jsonb_build_object(
           'ids', jsonb_build_object('user_id', 'visitor-' || u.session_id, 'ym_uid', '1712345678901234567')
                  || (u.analytics_data -> 'ids'),
           'visit', '{"version": 1}'::jsonb
                    || coalesce(u.analytics_data -> 'visit', '{}') || jsonb_build_object(
                    'touches', coalesce(u.analytics_data #> '{visit,touches}', '{}')
                               || jsonb_build_object(name, at || marked),
                    'pages', coalesce(u.analytics_data #> '{visit,pages}', '{}')
                             || jsonb_build_object(name, at || titled),
                    'seconds', coalesce(u.analytics_data #> '{visit,seconds}', '{}')
                               || jsonb_build_object(name || '.0', 0.4),
                    'forms', coalesce(u.analytics_data #> '{visit,forms}', '{}')))
  from told
 where u.site = 'default' and u.id = :session_row::bigint;
\endif
end;
