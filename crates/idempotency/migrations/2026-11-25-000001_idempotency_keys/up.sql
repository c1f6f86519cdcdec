-- One row is one record: the fingerprint and the reply of one key. The transaction that does the business writes of the
-- request also writes this row. `src/idempotency/` needs this file and nothing else of the schema.
CREATE TABLE idempotency_keys (
    account_id uuid NOT NULL,
    -- The space in which the key is unique. For example: `account`, `POST /v1/entitlements`, `POST /v1/orders/<id>/cancel`.
    -- Types limit the lengths, because PostgreSQL parses the text of each CHECK again for each statement.
    scope varchar(512) NOT NULL,
    key varchar(255) NOT NULL,
    id uuid NOT NULL,
    route text NOT NULL,
    -- The request that used the key first.
    request_id uuid NOT NULL,
    fingerprint_version smallint NOT NULL,
    -- SHA-256.
    fingerprint bytea NOT NULL,
    -- The reply. Every record has a reply, and a 5xx is never stored.
    status smallint NOT NULL CHECK (status < 500),
    content_type text,
    location text,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (account_id, scope, key),
    -- A 202 is provisional and never expires. Every other reply is final and expires.
    CONSTRAINT idempotency_keys_provisional_never_expires CHECK ((status = 202) = (expires_at IS NULL))
);

-- For the list of an account's records, which pages by id. On purpose: the condition is true for every row, and only the
-- list's query states the condition, so that no other query uses this index. Without the condition, on a table that has not
-- been analyzed yet, the planner may use this index to find one key, and then it reads all records of the account.
CREATE INDEX idempotency_keys_in_order ON idempotency_keys (account_id, id) WHERE route <> '';

-- For the sweeper, which deletes expired records, the oldest first.
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;
