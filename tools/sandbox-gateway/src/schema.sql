-- The sandbox gateway's tables: what a payment provider would keep in its own database.
--
-- The sandbox runs this file at every start, so each statement allows that its object exists. The file changes no object that
-- exists: after an edit here, run DROP SCHEMA sandbox CASCADE. To create the schema, the user needs CREATE on the database.

CREATE SCHEMA IF NOT EXISTS sandbox;

-- The idempotency keys. Each has its first call and, as soon as there is an answer, the answer for later calls.
CREATE TABLE IF NOT EXISTS sandbox.keys (
    key        text PRIMARY KEY,
    request    text NOT NULL,
    -- How often the key was sent. Some payment methods count calls, and the count must survive a restart.
    calls      integer NOT NULL CHECK (calls > 0),
    status     smallint CHECK (status BETWEEN 200 AND 599),
    body       text,
    -- When the key is forgotten. The first call sets the time, so a sandbox with another SANDBOX_KEY_TTL forgets no key early.
    expires_at timestamptz NOT NULL,
    CHECK ((status IS NULL) = (body IS NULL))
);

-- The books. On purpose: a reference is not unique, so that the books can show a double capture. A key that was forgotten and
-- sent again is a second capture.
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
    -- The reference of the capture.
    capture    text NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    outcome    text NOT NULL CHECK (outcome = 'succeeded'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS refunds_reference ON sandbox.refunds (reference);
CREATE INDEX IF NOT EXISTS refunds_capture ON sandbox.refunds (capture);
