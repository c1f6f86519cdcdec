-- The committed rows of a run, in one snapshot. $1 the account, $2 the keys, $3 the orders.
SELECT json_build_object(
  'records', (SELECT coalesce(json_agg(json_build_object('key', key, 'status', status, 'bytes', bytes) ORDER BY created_at), '[]') FROM (
      SELECT key, status, length(body) AS bytes, created_at FROM idempotency_keys
        WHERE account_id = $1 AND scope = 'account' AND key = ANY ($2)
      UNION ALL SELECT key, status, length(body), created_at FROM demo.records WHERE key = ANY ($2)) records),
  'calls', (SELECT coalesce(json_agg(json_build_object('reference', left(reference, 12), 'attempts', attempts,
      'resolved', resolved_at IS NOT NULL) ORDER BY created_at), '[]') FROM external_calls
      WHERE account_id = $1 AND scope = 'account' AND key = ANY ($2)),
  'charges', (SELECT coalesce(json_agg(json_build_object('id', id, 'status', status, 'order_id', order_id, 'gateway_id', gateway_id)
      ORDER BY created_at, id), '[]') FROM (
      SELECT id, status, order_id, gateway_id, created_at FROM charges WHERE account_id = $1 AND order_id = ANY ($3)
      UNION ALL SELECT id, status, order_id, gateway_id, created_at FROM demo.charges WHERE order_id = ANY ($3)) charges),
  'orders', (SELECT coalesce(json_agg(json_build_object('id', id, 'status', status) ORDER BY id), '[]') FROM orders
      WHERE account_id = $1 AND id = ANY ($3)),
  'entitlements', (SELECT coalesce(json_agg(json_build_object('id', id, 'feature', feature) ORDER BY id), '[]') FROM entitlements
      WHERE account_id = $1 AND order_id = ANY ($3))
) AS truth
