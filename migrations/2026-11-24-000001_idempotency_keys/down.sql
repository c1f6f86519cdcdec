DROP TABLE idempotency_keys;
DROP TABLE idempotency_missing_replies;
