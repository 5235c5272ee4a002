-- What CRMs say: deals as they were read last, which of them are to be read again, and how far a sweep has come.
-- New columns and tables only: old code does not know them, new code needs them.

-- A conversion whose deal was reopened, lost after all, or deleted; null while it counts.
alter table closedloop.conversion add column if not exists cancelled_at timestamptz;

-- waiting: kept durably, work on it comes after; failed: it could not be read, `reason` says why.
alter table closedloop.webhook drop constraint if exists webhook_outcome_check;
alter table closedloop.webhook add constraint webhook_outcome_check
      check (outcome in ('accepted', 'refused', 'waiting', 'failed')) not valid;
create index if not exists webhook_waiting on closedloop.webhook (site, webhook_id) where outcome = 'waiting';
create index if not exists webhook_failed on closedloop.webhook (site, source) where outcome = 'failed';
create index if not exists conversion_deal on closedloop.conversion (site, deal_id) where deal_id is not null;

-- One deal as its CRM showed it last. `sealed` is all of it, names and contacts among it; the columns are what
-- comparisons and reports need. `is_read`: the CRM was asked, else a webhook showed a part. `told` are the goals that this deal has ever reached by the word of the CRM,
-- `digest` is over what its conversions were last made from: equal means that nothing has to be done.
create table if not exists closedloop.deal (
    site text not null,
    crm text not null,
    deal_id text not null,
    funnel text not null,
    stage text not null,
    outcome text not null check (outcome in ('open', 'won', 'lost')),
    value numeric,
    currency text,
    created_at timestamptz,
    changed_at timestamptz not null,
    closed_at timestamptz,
    is_deleted boolean not null,
    is_read boolean not null,
    read_at timestamptz not null,
    findings jsonb not null,
    told text[] not null,
    digest bytea not null,
    written bytea,
    sealed bytea not null,
    primary key (site, crm, deal_id)
);
create index if not exists deal_read on closedloop.deal (site, crm, read_at) where not is_deleted;

-- Deals that have to be read again, each once however often it was told. `wanted` grows with every telling, so
-- that one which comes while the deal is being read is not lost.
create table if not exists closedloop.deal_task (
    site text not null,
    crm text not null,
    deal_id text not null,
    wanted bigint not null,
    due_at timestamptz not null,
    attempt integer not null,
    reason text,
    webhook_id uuid,
    hints bytea,
    primary key (site, crm, deal_id)
);
create index if not exists deal_task_due on closedloop.deal_task (site, crm, due_at);

-- How far a sweep has come, and since when the next one has to look.
create table if not exists closedloop.sweep (
    site text not null,
    crm text not null,
    cursor text,
    began_at timestamptz not null,
    seen bigint not null,
    touched_at timestamptz not null,
    done_at timestamptz,
    since timestamptz not null,
    primary key (site, crm)
);

-- The pair of tokens of one authorization, sealed: a refresh token works once, so it is kept before it is used.
create table if not exists closedloop.crm_token (
    site text not null,
    crm text not null,
    sealed bytea not null,
    expires_at timestamptz not null,
    primary key (site, crm)
);
