-- Each filter of a list that may match few of very many rows has an index, so that no list reads an account's whole history.
-- `IF NOT EXISTS`: on large tables an operator makes them first with CREATE INDEX CONCURRENTLY, which blocks no write.
CREATE INDEX IF NOT EXISTS orders_of_a_customer ON orders (account_id, customer, id);
CREATE INDEX IF NOT EXISTS orders_of_a_status ON orders (account_id, status, id);
CREATE INDEX IF NOT EXISTS charges_of_a_status ON charges (account_id, status, id);
-- For the filter `parked`: parked external calls are few, and name their charges.
CREATE INDEX IF NOT EXISTS charges_of_a_reference ON charges (account_id, reference);
CREATE INDEX IF NOT EXISTS entitlements_of_a_feature ON entitlements (account_id, feature, id);
