-- "Settlement" means the movement of cleared funds to a merchant. What this table has is an external call.
ALTER TABLE settlements RENAME TO external_calls;
ALTER TABLE external_calls RENAME COLUMN settled_at TO resolved_at;
ALTER TABLE external_calls RENAME CONSTRAINT settlements_pkey TO external_calls_pkey;
ALTER TABLE external_calls RENAME CONSTRAINT settlements_attempts_check TO external_calls_attempts_check;
ALTER TABLE external_calls RENAME CONSTRAINT settlements_open_is_leased TO external_calls_open_is_leased;
ALTER TABLE external_calls RENAME CONSTRAINT settlements_only_open_is_parked TO external_calls_only_open_is_parked;
ALTER INDEX settlements_due RENAME TO external_calls_due;
