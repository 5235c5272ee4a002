-- The private schema: the ledger of conversions, the inbox of webhooks, the journal, and who is who.
-- Every primary and unique key begins with `site`, so that the tables can be distributed by it.
-- New tables only: old code does not know them, new code needs them.

do $$
begin
    -- A role that was given the schema need not have the right to make one.
    if to_regnamespace('closedloop') is null then
        create schema closedloop;
    end if;
end
$$;
revoke all on schema closedloop from public;

create table if not exists closedloop.migration (
    version text primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null
);

-- One deal reaching one goal, once. The truth; the goal lists in user_analytics are its image.
create table if not exists closedloop.conversion (
    site text not null,
    conversion_id uuid not null,
    dedup_key bytea not null,
    dedup_rule text not null check (dedup_rule in ('deal', 'event', 'body')),
    goal text not null,
    deal_id text,
    event_id text,
    session_id text,
    ym_uid text,
    ym_uid_low text,
    ym_uid_high text,
    yclid text,
    identifiers jsonb,
    value numeric not null,
    currency text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    revision integer not null default 1,
    told_at timestamptz not null,
    state text not null check (state in ('matched', 'unmatched')),
    session_row text,
    rule text,
    matched_at timestamptz,
    primary key (site, conversion_id),
    check ((state = 'matched') = (session_row is not null and rule is not null and matched_at is not null))
);
create unique index if not exists conversion_dedup_key on closedloop.conversion (site, dedup_key);
-- The identifiers that an unmatched conversion, or a lead, waits for. Narrow, and in the order of the indexes that the
-- search for late sessions probes, so that a pass over all of it is cheap.
create table if not exists closedloop.waiting (
    site text not null,
    kind text not null,
    value text collate "C" not null,
    waiter_id uuid not null,
    primary key (site, kind, value, waiter_id)
);
create index if not exists waiting_waiter on closedloop.waiting (site, waiter_id);

-- Each event id that a sender ever used, so that its repetition is known even after a revision.
create table if not exists closedloop.event (
    site text not null,
    event_id text not null,
    conversion_id uuid not null,
    primary key (site, event_id)
);

-- The inbox: one HTTP request each, as it came. `query` and `body` hold what people typed, phones among it:
-- both are sealed with the deployment's key, an empty one stays empty.
create table if not exists closedloop.webhook (
    site text not null,
    webhook_id uuid not null,
    source text not null,
    received_at timestamptz not null,
    method text not null,
    query bytea not null,
    content_type text not null,
    user_agent text not null,
    body bytea not null,
    outcome text not null check (outcome in ('accepted', 'refused')),
    reason text,
    primary key (site, webhook_id)
);

-- Append only: what happened to a conversion, and because of which webhook.
create table if not exists closedloop.journal (
    site text not null,
    conversion_id uuid not null,
    entry bigint generated always as identity,
    at timestamptz not null,
    kind text not null,
    webhook_id uuid,
    detail jsonb not null,
    primary key (site, conversion_id, entry)
);

-- Identifiers other than the two of the contract: a click id, or the keyed hash of a phone or an e-mail.
create table if not exists closedloop.identity (
    site text not null,
    kind text not null,
    value text collate "C" not null,
    session_row text not null,
    seen_at timestamptz not null,
    primary key (site, kind, value, session_row)
);

-- What public.user_analytics looks like here and which parts of it are ours; one row.
create table if not exists closedloop.session_table (
    only_row boolean primary key default true check (only_row),
    id_type text not null,
    session_id_type text not null,
    data_type text not null,
    has_site boolean not null,
    has_generated boolean not null,
    adopted_at timestamptz not null
);

do $$
declare
    api_role text;
begin
    -- The roles of Supabase's REST API, where they exist, get nothing.
    foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
        if to_regrole(api_role) is not null then
            execute format('revoke all on schema closedloop from %I', api_role);
            execute format('revoke all on all tables in schema closedloop from %I', api_role);
            execute format('revoke all on all sequences in schema closedloop from %I', api_role);
        end if;
    end loop;
end
$$;
