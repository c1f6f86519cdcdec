-- `payments reconcile` finds a refund by its name at the gateway. `IF NOT EXISTS`: on a large table an operator makes it first with
-- CREATE INDEX CONCURRENTLY, which blocks no write.
CREATE INDEX IF NOT EXISTS refunds_of_a_reference ON refunds (account_id, reference);
