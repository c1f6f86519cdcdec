-- What an operator knows about an API key: its name, and when a request last came with it. Keys of earlier releases have no name.
ALTER TABLE api_keys
    ADD COLUMN name text,
    -- Written at most once a minute, beside the requests: see src/http/key_use.rs.
    ADD COLUMN last_used_at timestamptz;

ALTER TABLE api_keys
    ADD CONSTRAINT api_keys_name_is_short CHECK (length(name) BETWEEN 1 AND 255) NOT VALID;
