-- The credential of the request that used the key first, as the service names it: for example the id of an API key, never the
-- secret. Null: the service names none, or the record is of an earlier release.
ALTER TABLE idempotency_keys ADD COLUMN credential varchar(255);
