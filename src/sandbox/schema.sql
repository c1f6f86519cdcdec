-- The sandbox gateway's tables: what a payment provider would keep in its own database.
--
-- Applied at every start, so each statement may meet what it creates. It does not change what exists: after an edit here,
-- DROP SCHEMA sandbox CASCADE. Creating the schema takes the right CREATE on the database.

CREATE SCHEMA IF NOT EXISTS sandbox;

-- The idempotency keys, each with the first call's content and, once there is one, the answer that later calls get.
CREATE TABLE IF NOT EXISTS sandbox.keys (
    key        text PRIMARY KEY,
    request    text NOT NULL,
    -- How often the key was sent, so that the methods that act by count survive a restart.
    calls      integer NOT NULL CHECK (calls > 0),
    status     smallint CHECK (status BETWEEN 200 AND 599),
    body       text,
    -- When the key is forgotten: set by the first call, so that a sandbox with another SANDBOX_KEY_TTL forgets nothing early.
    expires_at timestamptz NOT NULL,
    CHECK ((status IS NULL) = (body IS NULL))
);

-- The books. A reference is deliberately not unique: a key that was forgotten and sent again is a second capture, and books
-- that could not show it would hide the very mistake they are read to find.
CREATE TABLE IF NOT EXISTS sandbox.captures (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference  text NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    outcome    text NOT NULL CHECK (outcome IN ('succeeded', 'card_declined', 'insufficient_funds', 'error')),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS captures_reference ON sandbox.captures (reference);

CREATE TABLE IF NOT EXISTS sandbox.refunds (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference  text NOT NULL,
    -- The reference of the capture, as the caller names it.
    capture    text NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    outcome    text NOT NULL CHECK (outcome = 'succeeded'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS refunds_reference ON sandbox.refunds (reference);
CREATE INDEX IF NOT EXISTS refunds_capture ON sandbox.refunds (capture);
