-- public.user_analytics of our own making, where none exists. One that exists is left alone: `closedloop adopt`.
-- The identifiers are generated columns, not expression indexes: an index expression over analytics_data
-- forbids HOT updates, and every appended goal would rewrite every index.

do $$
declare
    api_role text;
begin
    if to_regclass('public.user_analytics') is not null then
        return;
    end if;
    create table public.user_analytics (
        id bigint generated always as identity primary key,
        site text not null default 'default',
        session_id text not null,
        "timestamp" timestamptz not null default now(),
        analytics_data jsonb not null default '{}',
        ym_uid text generated always as (analytics_data -> 'ids' ->> 'ym_uid') stored,
        yclid text generated always as (analytics_data -> 'ids' ->> 'yclid') stored
    ) with (fillfactor = 80);
    create index user_analytics_session on public.user_analytics
        (site, session_id collate "C", "timestamp" desc nulls last);
    create index user_analytics_ym_uid on public.user_analytics
        (site, ym_uid collate "C", "timestamp" desc nulls last) where ym_uid is not null;
    create index user_analytics_yclid on public.user_analytics
        (site, yclid collate "C", "timestamp" desc nulls last) where yclid is not null;
    alter table public.user_analytics enable row level security;
    revoke all on public.user_analytics from public;
    foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
        if to_regrole(api_role) is not null then
            execute format('revoke all on public.user_analytics from %I', api_role);
            execute format('revoke all on sequence public.user_analytics_id_seq from %I', api_role);
        end if;
    end loop;
    insert into closedloop.session_table
        (id_type, session_id_type, data_type, has_site, has_generated, adopted_at)
    values ('bigint', 'text', 'jsonb', true, true, now())
    on conflict do nothing;
end
$$;
