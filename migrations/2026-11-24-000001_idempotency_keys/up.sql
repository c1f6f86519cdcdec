-- One row for each key of an account and scope: the request's fingerprint and, from the same commit on, its reply.
-- `src/idempotency/` needs this file and nothing else of the schema.

-- Always empty. A row of idempotency_keys without a reply refers to it, so such a row can't commit (see below).
CREATE TABLE idempotency_missing_replies (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (account_id, id),
    CONSTRAINT idempotency_missing_replies_stays_empty CHECK (false)
);

CREATE TABLE idempotency_keys (
    account_id uuid NOT NULL,
    -- `account`, `POST /v1/entitlements` or `POST /v1/orders/<id>/cancel`: the space in which the key is unique.
    scope text NOT NULL CHECK (length(scope) BETWEEN 1 AND 512),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    id uuid NOT NULL,
    route text NOT NULL,
    fingerprint_version smallint NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- The reply. Null only inside the transaction that claimed the key; a 5xx is never stored.
    status smallint CHECK (status BETWEEN 200 AND 499),
    content_type text,
    location text,
    body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    -- Set while the row lacks its reply. The foreign key has nothing to point at, and is checked at COMMIT: the database
    -- itself refuses to commit a record without a reply. (A CHECK can't be deferred, and a trigger doesn't distribute.)
    missing_reply uuid GENERATED ALWAYS AS (CASE WHEN status IS NULL THEN id END) STORED,
    PRIMARY KEY (account_id, scope, key),
    -- The list of an account's records pages by id.
    CONSTRAINT idempotency_keys_id_is_unique UNIQUE (account_id, id),
    CONSTRAINT idempotency_keys_reply_is_whole CHECK ((status IS NULL) = (body IS NULL)),
    -- A 202 is provisional and never expires; every other reply is final and does.
    CONSTRAINT idempotency_keys_provisional_never_expires CHECK (status IS NULL OR (status = 202) = (expires_at IS NULL)),
    CONSTRAINT idempotency_keys_commits_with_its_reply FOREIGN KEY (account_id, missing_reply)
        REFERENCES idempotency_missing_replies (account_id, id) DEFERRABLE INITIALLY DEFERRED
);

-- What the sweeper deletes, oldest first.
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;
