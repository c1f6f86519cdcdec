-- The sandbox gateway's tables: what a payment provider would keep in its own database.
--
-- The sandbox runs this file at every start, so each statement allows that its object exists. The file changes no object that
-- exists: after an edit here, run DROP SCHEMA sandbox CASCADE. To create the schema, the user needs CREATE on the database.

-- The tables of version 0.1.0 had another form. What they say is play money.
DO $$
BEGIN
    IF to_regclass('sandbox.captures') IS NOT NULL THEN
        DROP SCHEMA sandbox CASCADE;
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS sandbox;

-- The idempotency keys. Each has its first request and, as soon as there is an answer, the answer for later requests.
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

-- A reference in the metadata is not unique, so that the books can show a double payment: a key that was forgotten and sent
-- again is a second payment.
CREATE TABLE IF NOT EXISTS sandbox.payment_intents (
    position       bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    id             text PRIMARY KEY DEFAULT 'pi_' || replace(gen_random_uuid()::text, '-', ''),
    amount         bigint NOT NULL CHECK (amount > 0),
    currency       text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    payment_method text NOT NULL,
    status         text NOT NULL CHECK (status IN ('succeeded', 'requires_payment_method', 'requires_action', 'processing', 'canceled')),
    error_code     text,
    decline_code   text,
    metadata       jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS sandbox.refunds (
    position       bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    id             text PRIMARY KEY DEFAULT 're_' || replace(gen_random_uuid()::text, '-', ''),
    payment_intent text NOT NULL REFERENCES sandbox.payment_intents (id),
    amount         bigint NOT NULL CHECK (amount > 0),
    currency       text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    status         text NOT NULL CHECK (status IN ('succeeded', 'pending', 'failed', 'canceled')),
    -- The bank's later answer: from this time on the refund has this status.
    changes_at     timestamptz,
    later_status   text CHECK (later_status IN ('succeeded', 'failed')),
    metadata       jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((changes_at IS NULL) = (later_status IS NULL))
);

CREATE INDEX IF NOT EXISTS refunds_of_a_payment ON sandbox.refunds (payment_intent);
