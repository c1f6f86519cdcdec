CREATE TABLE products (
    account_id uuid NOT NULL,
    sku text NOT NULL CHECK (sku ~ '^[A-Za-z0-9._-]{1,64}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    unit_amount bigint NOT NULL CHECK (unit_amount BETWEEN 1 AND 99999999),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- The total ever supplied. Null is unlimited. Orders change `reserved` only if stock is set.
    stock bigint CHECK (stock BETWEEN 0 AND 1000000000),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    -- What payment of one unit grants. Without a feature: nothing. Without units: unlimited. Without days: for ever.
    grant_feature text CHECK (grant_feature ~ '^[A-Za-z0-9._-]{1,64}$'),
    grant_units bigint CHECK (grant_units BETWEEN 1 AND 1000000000),
    grant_days integer CHECK (grant_days BETWEEN 1 AND 3650),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, sku),
    CONSTRAINT products_reserved_within_stock CHECK (stock IS NULL OR reserved <= stock),
    CONSTRAINT products_grant_has_a_feature CHECK (grant_feature IS NOT NULL OR (grant_units IS NULL AND grant_days IS NULL))
);

CREATE TABLE orders (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    customer varchar(255) NOT NULL CHECK (customer <> ''),
    status text NOT NULL CHECK (status IN ('pending', 'paid', 'canceled', 'refunded')),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- The largest amount is a hundred items of 10,000 at 99,999,999: 10^14. Every JSON parser reads that number exactly.
    amount bigint NOT NULL CHECK (amount > 0),
    -- The items, with the catalogue's data at that time: [{sku, name, quantity, unit_amount, reserves, grants}]. They are
    -- written once and always read together, so they are a document and not a table. In a table, the foreign keys alone took
    -- a seventh of an order's time. On purpose: no foreign key to products, so that an order does not lock a product's row.
    items jsonb NOT NULL CHECK (jsonb_array_length(items) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id)
);

-- One row for each change, written by the transaction that made the change. Events get their position in the feed later,
-- after their commit and under the feed's lock: neither ids nor sequences follow the order of commits.
CREATE TABLE events (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    position bigint CHECK (position > 0),
    type text NOT NULL,
    data json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id)
);

-- The feed. Events without a position are not in this index, so inserting an event does not touch it.
CREATE UNIQUE INDEX events_position_is_unique ON events (account_id, position) WHERE position IS NOT NULL;

-- Events get their positions in this order. With the index, a long backlog is read piece by piece without a sort.
CREATE INDEX events_without_position ON events (account_id, created_at, id) WHERE position IS NULL;

-- The last position given in an account's feed. The lock on this row is the feed's lock.
CREATE TABLE event_feeds (
    account_id uuid PRIMARY KEY,
    last_position bigint NOT NULL CHECK (last_position >= 0)
);
