-- Lists what must not be in the database while no request is under way: one line for each kind of difference. An empty answer
-- is right.
SELECT what, n FROM (
    SELECT 'charges or refunds processing' AS what, (SELECT count(*) FROM charges WHERE status = 'processing')
        + (SELECT count(*) FROM refunds WHERE status = 'processing') AS n
    UNION ALL SELECT 'external calls open', count(*) FROM external_calls WHERE resolved_at IS NULL
    UNION ALL SELECT 'records provisional', count(*) FROM idempotency_keys WHERE status = 202
    UNION ALL SELECT 'orders paid without a charge, or charged but not paid', count(*) FROM orders o
        WHERE (status IN ('paid', 'refunded')) <> EXISTS (SELECT FROM charges c
            WHERE c.account_id = o.account_id AND c.order_id = o.id AND c.status = 'succeeded' AND c.amount = o.amount)
    UNION ALL SELECT 'orders without their record', count(*) FROM orders o
        WHERE NOT EXISTS (SELECT FROM idempotency_keys k WHERE k.account_id = o.account_id AND k.location = '/v1/orders/' || o.id)
    UNION ALL SELECT 'orders without exactly one order.created event', count(*) FROM orders o
        WHERE (SELECT count(*) FROM events e WHERE e.account_id = o.account_id AND e.type = 'order.created'
            AND e.data ->> 'id' = o.id::text) <> 1
) found WHERE n > 0;
