-- The client's own data: a map of texts, returned and never interpreted. src/shop/metadata.rs has its limits, which a CHECK can't
-- hold: it may count no keys. NOT VALID: the rows of today have the default.
ALTER TABLE orders ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE orders ADD CONSTRAINT orders_metadata_is_an_object CHECK (jsonb_typeof(metadata) = 'object') NOT VALID;

ALTER TABLE charges ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE charges ADD CONSTRAINT charges_metadata_is_an_object CHECK (jsonb_typeof(metadata) = 'object') NOT VALID;

ALTER TABLE refunds ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE refunds ADD CONSTRAINT refunds_metadata_is_an_object CHECK (jsonb_typeof(metadata) = 'object') NOT VALID;
