-- What the tracker and the forms tell: who makes the row of a session, and leads with their contacts.
-- New tables only: old code does not know them, new code needs them.

-- Which process makes the row of a session: session ids need not be unique in public.user_analytics, and two
-- processes may see a visitor for the first time at once.
create table if not exists closedloop.session_made (
    site text not null,
    session_id text collate "C" not null,
    made_at timestamptz not null,
    primary key (site, session_id)
);
create index if not exists session_made_at on closedloop.session_made (site, made_at desc);

-- One form that was sent: who it was, hashed to be found by and sealed to be shown, and the session it came from.
create table if not exists closedloop.lead (
    site text not null,
    lead_id uuid not null,
    source text not null,
    dedup_key bytea not null,
    transaction_id text,
    form_id text,
    form_name text,
    session_id text,
    ym_uid text,
    yclid text,
    identifiers jsonb,
    contacts bytea not null,
    order_id text,
    order_amount numeric,
    order_paid boolean,
    received_at timestamptz not null,
    webhook_id uuid not null,
    session_row text,
    rule text,
    primary key (site, lead_id)
);
create unique index if not exists lead_dedup_key on closedloop.lead (site, dedup_key);
create index if not exists lead_received on closedloop.lead (site, received_at desc);
