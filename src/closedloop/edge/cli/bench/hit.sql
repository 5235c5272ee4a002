-- For pgbench: what one hit needs, by hand, in one transaction: find the session and merge the page view into
-- its document, or make its row; nine known sessions to one new one, as in hit.lua.
\set number random(1, :sessions)
\set view random(1, 1000000000000000000)
\set kind random(1, 10)
begin;
\if :kind = 10
insert into public.user_analytics (site, session_id, "timestamp", analytics_data)
values ('default', 'new-' || :view::bigint, now(), jsonb_build_object(
       'ids', jsonb_build_object('session_id', 'new-' || :view::bigint, 'user_id', 'visitor-' || :view::bigint,
                                 'ym_uid', '1712345678901234567'),
       'visit', jsonb_build_object('version', 1, 'pages', jsonb_build_object('v' || :view::bigint, jsonb_build_object(
                'url', 'https://shop.example/catalogue/' || :view::bigint % 900 || '?utm_source=yandex', 'referrer', '',
                'title', 'Catalogue', 'at', '2026-11-24T10:00:00.000Z'))),
       'target_actions', '{"conversion_flag": false, "yandex_goals_triggered": []}'::jsonb));
\else
select u.id as session_row
  from public.user_analytics u
 where u.site = 'default'
   and u.session_id collate "C"
       = lpad(to_hex((:number::bigint * 618033989) % 4294967296), 8, '0') || '-' || :number::bigint
 order by u."timestamp" desc nulls last
 limit 1
\gset
update public.user_analytics u
   set analytics_data = u.analytics_data || jsonb_build_object(
           'ids', jsonb_build_object('user_id', 'visitor-' || u.session_id, 'ym_uid', '1712345678901234567')
                  || (u.analytics_data -> 'ids'),
           'visit', coalesce(u.analytics_data -> 'visit', '{"version": 1}') || jsonb_build_object(
                    'pages', coalesce(u.analytics_data #> '{visit,pages}', '{}')
                             || jsonb_build_object('v' || :view::bigint, jsonb_build_object(
                                'url', 'https://shop.example/catalogue/' || :view::bigint % 900 || '?utm_source=yandex',
                                'referrer', '', 'title', 'Catalogue', 'at', '2026-11-24T10:00:00.000Z')),
                    'seconds', coalesce(u.analytics_data #> '{visit,seconds}', '{}')
                               || jsonb_build_object('v' || :view::bigint || '.0', 0.4)))
 where u.site = 'default' and u.id = :session_row::bigint;
\endif
end;
