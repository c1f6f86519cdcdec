-- Tables below don't refer to accounts by a foreign key: each insert would lock its account's row FOR KEY SHARE, a row
-- that every request of an account shares. The id comes from an authenticated key, and accounts are never deleted.
CREATE TABLE accounts (
    account_id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The one table that is read without an account: it is what turns a key into one. Small enough for every node to hold.
CREATE TABLE api_keys (
    -- SHA-256 of the whole key. Keys hold 244 random bits, so no salt and no slow hash is needed.
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    account_id uuid NOT NULL REFERENCES accounts (account_id),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
