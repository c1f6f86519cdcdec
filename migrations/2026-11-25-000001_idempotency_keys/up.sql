-- One row for each key of an account and scope: the request's fingerprint and its reply, written by the transaction that
-- did what the request asked for. `src/idempotency/` needs this file and nothing else of the schema.
CREATE TABLE idempotency_keys (
    account_id uuid NOT NULL,
    -- `account`, `POST /v1/entitlements` or `POST /v1/orders/<id>/cancel`: the space in which the key is unique.
    -- (PostgreSQL reads the text of each CHECK again for each statement, so lengths are limited by types.)
    scope varchar(512) NOT NULL,
    key varchar(255) NOT NULL,
    id uuid NOT NULL,
    route text NOT NULL,
    -- Of the request that used the key first.
    request_id uuid NOT NULL,
    fingerprint_version smallint NOT NULL,
    -- SHA-256.
    fingerprint bytea NOT NULL,
    -- The reply. No record is without one, and a 5xx is never stored.
    status smallint NOT NULL CHECK (status < 500),
    content_type text,
    location text,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (account_id, scope, key),
    -- A 202 is provisional and never expires; every other reply is final and does.
    CONSTRAINT idempotency_keys_provisional_never_expires CHECK ((status = 202) = (expires_at IS NULL))
);

-- The list of an account's records pages by id. The condition always holds, and only the list states it: on a table that
-- has not been analyzed yet, the planner takes this index for as good as the primary key to find one key, and would read
-- all records of the account for it.
CREATE INDEX idempotency_keys_in_order ON idempotency_keys (account_id, id) WHERE route <> '';

-- What the sweeper deletes, oldest first.
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;
