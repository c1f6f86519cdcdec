-- The tables of a straightforward program, with the same rows as ours. Each table has the index of its primary key, and
-- the keys have one for expired keys.
CREATE TABLE limit_keys (
    account_id uuid, scope text, key text, fingerprint bytea NOT NULL, status smallint, body bytea,
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz, PRIMARY KEY (account_id, scope, key)
);
CREATE INDEX ON limit_keys (expires_at);
CREATE TABLE limit_products (account_id uuid, sku text, name text, unit_amount bigint, currency text, PRIMARY KEY (account_id, sku));
INSERT INTO limit_products VALUES
    ('01990000-0000-7000-8000-000000000001', 'pro-monthly', 'Pro, a month', 4900, 'EUR'),
    ('01990000-0000-7000-8000-000000000001', 'credits-1000', '1000 API credits', 2000, 'EUR');
CREATE TABLE limit_orders (
    account_id uuid, id bigint, customer text NOT NULL, status text NOT NULL, currency text NOT NULL, amount bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (account_id, id)
);
CREATE TABLE limit_order_items (
    account_id uuid, order_id bigint, sku text, name text NOT NULL, quantity int NOT NULL, unit_amount bigint NOT NULL,
    PRIMARY KEY (account_id, order_id, sku), FOREIGN KEY (account_id, order_id) REFERENCES limit_orders (account_id, id)
);
CREATE TABLE limit_events (
    account_id uuid, id bigint, type text NOT NULL, data json NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id)
);
