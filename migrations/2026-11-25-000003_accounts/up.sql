-- On purpose: the other tables have no foreign key to `accounts`, so that no insert locks its account's row FOR KEY SHARE.
-- All requests of an account would share that lock. The account's id comes from an authenticated API key, and accounts are
-- never deleted.
CREATE TABLE accounts (
    account_id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The only table that is read without an account: it maps an API key to its account. Every node of a cluster can hold it.
CREATE TABLE api_keys (
    -- SHA-256 of the whole API key. An API key has 244 random bits, so it needs no salt and no slow hash.
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    account_id uuid NOT NULL REFERENCES accounts (account_id),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
