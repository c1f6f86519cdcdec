-- The tables of the naive endpoint, which only the demo's stage has. The demo runs this file at every start.
SELECT pg_advisory_xact_lock(6423714021);

CREATE SCHEMA IF NOT EXISTS demo;

CREATE TABLE IF NOT EXISTS demo.charges (
    id         uuid PRIMARY KEY,
    key        text NOT NULL,
    order_id   uuid NOT NULL,
    status     text NOT NULL CHECK (status = 'succeeded'),
    amount     bigint NOT NULL CHECK (amount > 0),
    currency   text NOT NULL,
    gateway_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS charges_of_an_order ON demo.charges (order_id);

CREATE TABLE IF NOT EXISTS demo.records (
    key        text PRIMARY KEY,
    status     smallint NOT NULL,
    location   text NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
