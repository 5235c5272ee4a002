-- For pgbench: what one conversion needs, by hand, in one transaction: the tables and the work of
-- store/append.sql for a batch of one. What stands behind a dollar is the product's own expression.
\set number random(1, :sessions)
\set deal random(1, 1000000000000000000)
begin;
select u.id as session_row, uuidv7() as conversion_id, uuidv7() as webhook_id
  from public.user_analytics u
 where u.site = 'default'
   and u.session_id collate "C"
       = lpad(to_hex((:number::bigint * 618033989) % 4294967296), 8, '0') || '-' || :number::bigint
 order by u."timestamp" desc nulls last
 limit 1
\gset
insert into closedloop.conversion (
       site, conversion_id, dedup_key, dedup_rule, goal, deal_id, session_id, value, currency, occurred_at,
       received_at, told_at, state, session_row, rule, matched_at)
values ('default', :conversion_id::uuid, uuid_send(md5(:deal::bigint::text)::uuid), 'deal', 'payment_success',
       'p-' || :deal::bigint, lpad(to_hex((:number::bigint * 618033989) % 4294967296), 8, '0') || '-' || :number::bigint,
       4200.00, 'RUB', now(), now(), now(), 'matched', :session_row::bigint::text, 'session_id', now())
    on conflict (site, dedup_key) do nothing;
insert into closedloop.journal (site, conversion_id, at, kind, webhook_id, detail)
values ('default', :conversion_id::uuid, now(), 'matched', :webhook_id::uuid, '{}');
insert into closedloop.webhook (
       site, webhook_id, source, received_at, method, query, content_type, user_agent, body, outcome)
values ('default', :webhook_id::uuid, 'hook', now(), 'POST', '', 'application/json', 'closedloop-bench',
       '\x$body', 'accepted');
update public.user_analytics u
   set analytics_data = $appended
  from (select jsonb_build_array(jsonb_build_object(
               'goal', 'payment_success', 'timestamp', now()::text, 'value', 4200.00, 'source', 'crm_offline',
               'currency', 'RUB', 'conversion_id', :conversion_id::text, 'deal_id', 'p-' || :deal::bigint))
               as images) wanted
 where u.site = 'default' and u.id = :session_row::bigint and $fits;
end;
