-- The plain transaction of a keyed order, as a straightforward program sends it. For pgbench -M prepared.
\set a random(1, 9223372036854775807)
\set b random(1, 9223372036854775807)
BEGIN;
INSERT INTO limit_keys (account_id, scope, key, fingerprint) VALUES ('01990000-0000-7000-8000-000000000001', 'account', :a::text || '-' || :b::text, '\x0102030405060708091011121314151617181920212223242526272829303132') ON CONFLICT DO NOTHING;
SELECT sku, name, unit_amount, currency FROM limit_products WHERE account_id = '01990000-0000-7000-8000-000000000001' AND sku IN ('pro-monthly', 'credits-1000');
INSERT INTO limit_orders (account_id, id, customer, status, currency, amount) VALUES ('01990000-0000-7000-8000-000000000001', :a, 'ada', 'pending', 'EUR', 8900);
INSERT INTO limit_order_items (account_id, order_id, sku, name, quantity, unit_amount) VALUES ('01990000-0000-7000-8000-000000000001', :a, 'pro-monthly', 'Pro, a month', 1, 4900), ('01990000-0000-7000-8000-000000000001', :a, 'credits-1000', '1000 API credits', 2, 2000);
INSERT INTO limit_events (account_id, id, type, data) VALUES ('01990000-0000-7000-8000-000000000001', :b, 'order.created', '{"id":"01a20c8b-a347-77e8-9383-82b82fd85f4e","customer":"ada","status":"pending","currency":"EUR","amount":8900,"items":[{"sku":"pro-monthly","name":"Pro, a month","quantity":1,"unit_amount":4900},{"sku":"credits-1000","name":"1000 API credits","quantity":2,"unit_amount":2000}],"created_at":"2026-11-24T07:53:27.621049Z"}');
UPDATE limit_keys SET status = 201, body = convert_to(repeat('x', 600), 'UTF8'), expires_at = now() + interval '24 hours' WHERE account_id = '01990000-0000-7000-8000-000000000001' AND scope = 'account' AND key = :a::text || '-' || :b::text;
COMMIT;
