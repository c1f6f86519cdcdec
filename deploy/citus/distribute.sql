-- Distributes the schema by account over a Citus cluster: all rows of an account lie on one node, so each request is one
-- transaction on one node. Run it as the tables' owner, after `payments migrate`, and again after a release that adds a table:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/citus/distribute.sql
--
-- What is already distributed stays as it is. The schema `sandbox`, where there is one, stays on the coordinator: it
-- stands for somebody else's database.
DO $$
DECLARE
    name text;
BEGIN
    -- Small, read by every request before the account is known: a copy on every node.
    FOREACH name IN ARRAY ARRAY['accounts', 'api_keys', 'gateway_mode'] LOOP
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = name::regclass AND repmodel = 't') THEN
            PERFORM create_reference_table(name);
        END IF;
    END LOOP;
    -- In this order, since a foreign key's target goes first.
    FOREACH name IN ARRAY ARRAY['idempotency_keys', 'external_calls', 'products', 'orders', 'events', 'event_feeds', 'charges',
                                'refunds', 'entitlements'] LOOP
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = name::regclass AND partmethod = 'h') THEN
            PERFORM create_distributed_table(
                name, 'account_id',
                colocate_with => CASE name WHEN 'idempotency_keys' THEN 'none' ELSE 'idempotency_keys' END
            );
        END IF;
    END LOOP;
END $$;

-- A table with account_id that is missing from the lists above would stay on the coordinator, and every statement that
-- joins it would fail. This fails instead, so that a release that adds a table is noticed here.
DO $$
DECLARE
    forgotten text;
BEGIN
    SELECT string_agg(c.relname, ', ') INTO forgotten
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped
      AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = c.oid AND (partmethod = 'h' OR repmodel = 't'))
      AND NOT EXISTS (SELECT FROM pg_dist_shard WHERE c.relname = shard_name(logicalrelid, shardid));
    IF forgotten IS NOT NULL THEN
        RAISE EXCEPTION 'not distributed: %', forgotten;
    END IF;
END $$;
