-- Deliveries: each conversion on its way to each destination, the batches in which they go, and which destinations rest.
-- New tables only: old code does not know them, new code needs them.

-- One row for a conversion and a destination, for the conversion's whole life. `wanted` is the state of the conversion
-- that has to be told and grows with each change; `taken` is the last one with which the destination is done. `told` is
-- what it has taken: value, currency, whether it was cancelled.
create table if not exists closedloop.delivery (
    site text not null,
    delivery_id uuid not null,
    conversion_id uuid not null,
    destination text not null,
    wanted integer not null,
    taken integer not null,
    state text not null check (state in ('due', 'sending', 'pending', 'done', 'parked')),
    outcome text,
    reason text,
    due_at timestamptz not null,
    deadline timestamptz,
    attempt integer not null,
    batch_id text,
    told jsonb,
    told_at timestamptz,
    changed_at timestamptz not null,
    primary key (site, delivery_id)
);
create unique index if not exists delivery_conversion on closedloop.delivery (site, conversion_id, destination);
-- What is finished is in no index that a claim reads: ten million finished rows cost it nothing.
create index if not exists delivery_due on closedloop.delivery (site, destination, due_at)
 where state = 'due';
create index if not exists delivery_batch_rows on closedloop.delivery (site, batch_id)
 where state in ('sending', 'pending');

-- A batch is here before it is sent: `sealed` are the sales as they were, so that the same bytes go again. `lease_until`
-- is when its worker is taken for dead; `ask_at` is when the platform is asked for its verdict.
create table if not exists closedloop.delivery_batch (
    site text not null,
    batch_id text not null,
    destination text not null,
    made_at timestamptz not null,
    state text not null check (state in ('made', 'lost', 'pending', 'done')),
    lease_until timestamptz,
    ask_at timestamptz,
    asked integer not null,
    reference text not null,
    sealed bytea not null,
    primary key (site, batch_id)
);
create index if not exists delivery_batch_open on closedloop.delivery_batch (site, destination, made_at)
 where state <> 'done';
create index if not exists delivery_batch_made on closedloop.delivery_batch (site, destination, made_at);

-- A destination that rests: throttled until a moment, or blocked until a person has mended what `reason` says.
create table if not exists closedloop.destination (
    site text not null,
    destination text not null,
    rests_until timestamptz,
    is_blocked boolean not null,
    reason text,
    alarmed_at timestamptz,
    primary key (site, destination)
);
