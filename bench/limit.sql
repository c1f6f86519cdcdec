-- The transaction of POST /v1/orders: the API's own statements on the API's own tables. For pgbench -M prepared.
-- The texts are from PostgreSQL's log. `bench/run` compares them with the log of the measured server, and ends if they
-- differ. Values are parameters here too, so that PostgreSQL plans the statements as for the API. An id is 16 rising
-- digits, like the start of a UUIDv7, and 16 random ones. A key is random.
\set n :n + 1
\set a random(1000000000000000, 9999999999999999)
\set b random(1000000000000000, 9999999999999999)
BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED;
SELECT claim.got, record.id, record.fingerprint_version, record.fingerprint, record.status, record.content_type, record.location, record.body, record.expires_at, record.expires_at <= now() FROM (SELECT pg_try_advisory_xact_lock(:a) AS got) claim LEFT JOIN idempotency_keys record ON record.account_id = :account AND record.scope = :scope AND record.key = (:a::text || :b::text);
SELECT "products"."sku", "products"."name", "products"."unit_amount", "products"."currency", "products"."stock", "products"."reserved", "products"."grant_feature", "products"."grant_units", "products"."grant_days", "products"."created_at", "products"."updated_at" FROM "products" WHERE (("products"."account_id" = :account) AND ("products"."sku" = ANY(:skus)));
INSERT INTO "orders" ("account_id", "id", "customer", "status", "currency", "amount", "items", "metadata") VALUES (:account, (:n::text || :a::text)::uuid, :customer, :status, :currency, :amount, :items, :metadata) RETURNING "orders"."id", "orders"."customer", "orders"."status", "orders"."currency", "orders"."amount", "orders"."items", "orders"."metadata", "orders"."created_at";
INSERT INTO "events" ("account_id", "id", "type", "data") VALUES (:account, (:n::text || :a::text)::uuid, :type, :data);
INSERT INTO "idempotency_keys" ("account_id", "scope", "key", "id", "route", "request_id", "credential", "fingerprint_version", "fingerprint", "status", "content_type", "location", "body", "expires_at") VALUES (:account, :scope, (:a::text || :b::text), (:n::text || :a::text)::uuid, :route, (:b::text || :a::text)::uuid, :credential, :version, :fingerprint, :code, :content_type, :location, :body, (CURRENT_TIMESTAMP + :ttl)) RETURNING "idempotency_keys"."expires_at";
COMMIT;
