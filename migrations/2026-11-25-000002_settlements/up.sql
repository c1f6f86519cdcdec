-- One row for each call to a system outside: what is sent, who is at it, and how often it was tried. Written by the
-- transaction that makes the call necessary. `src/settlement/` needs this file, the one of `idempotency_keys`, and nothing
-- else of the schema. A row stays for good: it is how a late retry of its key finds what the key made.
CREATE TABLE settlements (
    account_id uuid NOT NULL,
    -- SHA-256 of account, scope and key, in hex: what the system outside knows the call by, and its idempotency key there.
    reference varchar(64) NOT NULL,
    -- The provisional record that the outcome settles.
    scope varchar(512) NOT NULL,
    key varchar(255) NOT NULL,
    request_id uuid NOT NULL,
    -- What is sent, the same every time.
    call jsonb NOT NULL,
    -- What the key made: the answer to a late retry.
    location text NOT NULL,
    -- The lease: `attempts` counts the leases taken, and fences; nobody else takes one before `next_attempt_at`.
    attempts integer NOT NULL DEFAULT 1 CHECK (attempts >= 1),
    next_attempt_at timestamptz,
    -- When the last sending began that is not known to have been answered. Written ahead, with the lease.
    unanswered_at timestamptz DEFAULT now(),
    parked_at timestamptz,
    settled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, reference),
    CONSTRAINT settlements_open_is_leased CHECK ((settled_at IS NULL) = (next_attempt_at IS NOT NULL)),
    CONSTRAINT settlements_only_open_is_parked CHECK (parked_at IS NULL OR settled_at IS NULL)
);

-- What the settler looks for each second. Settled rows are not in it, so it stays as small as the work that is open.
CREATE INDEX settlements_due ON settlements (next_attempt_at) WHERE settled_at IS NULL;
