-- One row is one settlement: the call to a system outside, the lease, and the number of attempts. The transaction that makes
-- the call necessary also writes this row. `src/settlement/` needs this file, the file of `idempotency_keys`, and nothing
-- else of the schema. A row is never deleted: a late retry finds here what its key made.
CREATE TABLE settlements (
    account_id uuid NOT NULL,
    -- SHA-256 of account, scope and key, in hex. The system outside gets it as the call's name and as its idempotency key.
    reference varchar(64) NOT NULL,
    -- The provisional record that the outcome settles.
    scope varchar(512) NOT NULL,
    key varchar(255) NOT NULL,
    request_id uuid NOT NULL,
    -- The call, sent the same every time.
    call jsonb NOT NULL,
    -- The URL of what the key made: the answer to a late retry names it.
    location text NOT NULL,
    -- The lease. `attempts` counts the leases taken and is the fence. Nobody takes another lease before `next_attempt_at`.
    attempts integer NOT NULL DEFAULT 1 CHECK (attempts >= 1),
    next_attempt_at timestamptz,
    -- When the last sending began that has no known answer. It is written before the sending, together with the lease.
    unanswered_at timestamptz DEFAULT now(),
    parked_at timestamptz,
    settled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, reference),
    CONSTRAINT settlements_open_is_leased CHECK ((settled_at IS NULL) = (next_attempt_at IS NOT NULL)),
    CONSTRAINT settlements_only_open_is_parked CHECK (parked_at IS NULL OR settled_at IS NULL)
);

-- For the settler, which looks each second. Settled rows are not in this index, so the index stays as small as the open work.
CREATE INDEX settlements_due ON settlements (next_attempt_at) WHERE settled_at IS NULL;
