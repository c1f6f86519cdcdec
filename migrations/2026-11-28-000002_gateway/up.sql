-- The gateway's object: a PaymentIntent (pi_..) or a refund (re_..). Null until the outcome is known, if the gateway refused the
-- call, and for what 0.1.0 made. A charge without it can't be refunded.
ALTER TABLE charges ADD COLUMN gateway_id varchar(255);

ALTER TABLE refunds ADD COLUMN gateway_id varchar(255);
ALTER TABLE refunds ADD COLUMN failure_code text;
UPDATE refunds SET failure_code = 'gateway_failed' WHERE status = 'failed';
ALTER TABLE refunds
    ADD CONSTRAINT refunds_failure_has_a_code CHECK ((status = 'failed') = (failure_code IS NOT NULL)) NOT VALID;

-- Where this database's money is. Charges of one mode must never meet the gateway of another. One row, of no account: on Citus a
-- reference table.
CREATE TABLE gateway_mode (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    mode text NOT NULL CHECK (mode IN ('sandbox', 'test', 'live')),
    created_at timestamptz NOT NULL DEFAULT now()
);
