ALTER TABLE refunds DROP COLUMN metadata;
ALTER TABLE charges DROP COLUMN metadata;
ALTER TABLE orders DROP COLUMN metadata;
