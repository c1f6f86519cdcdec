DROP TABLE gateway_mode;
ALTER TABLE refunds DROP COLUMN failure_code;
ALTER TABLE refunds DROP COLUMN gateway_id;
ALTER TABLE charges DROP COLUMN gateway_id;
