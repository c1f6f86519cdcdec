CREATE TABLE charges (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('processing', 'succeeded', 'failed')),
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 9007199254740991),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    payment_method text NOT NULL,
    -- The sum of the succeeded and the processing refunds.
    amount_refunded bigint NOT NULL DEFAULT 0,
    failure_code text,
    -- The gateway's name for the call. The row of `settlements` with this reference says how far the call is.
    reference varchar(64) NOT NULL,
    -- The key and the id of the request that made the charge. Support asks for them.
    idempotency_key varchar(255) NOT NULL,
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, order_id) REFERENCES orders (account_id, id),
    CONSTRAINT charges_refunds_within_amount CHECK (amount_refunded BETWEEN 0 AND amount),
    CONSTRAINT charges_failure_has_a_code CHECK ((status = 'failed') = (failure_code IS NOT NULL))
);

-- An order is paid once and has one payment under way at a time, with however many keys the client tries.
CREATE UNIQUE INDEX charges_one_live_charge_per_order ON charges (account_id, order_id) WHERE status IN ('processing', 'succeeded');
CREATE INDEX charges_of_an_order ON charges (account_id, order_id);

CREATE TABLE refunds (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    charge_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('processing', 'succeeded', 'failed')),
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 9007199254740991),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reference varchar(64) NOT NULL,
    idempotency_key varchar(255) NOT NULL,
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, charge_id) REFERENCES charges (account_id, id)
);

CREATE INDEX refunds_of_a_charge ON refunds (account_id, charge_id, id);

CREATE TABLE entitlements (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    customer text NOT NULL CHECK (length(customer) BETWEEN 1 AND 255),
    feature text NOT NULL CHECK (feature ~ '^[A-Za-z0-9._-]{1,64}$'),
    -- Null is unlimited. Used units are counted in both cases. The maximum is 10,000 times a product's 1,000,000,000.
    units bigint CHECK (units BETWEEN 1 AND 10000000000000),
    units_used bigint NOT NULL DEFAULT 0 CHECK (units_used BETWEEN 0 AND 9007199254740991),
    order_id uuid,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, order_id) REFERENCES orders (account_id, id),
    CONSTRAINT entitlements_used_within_units CHECK (units IS NULL OR units_used <= units)
);

CREATE INDEX entitlements_of_a_customer ON entitlements (account_id, customer, feature, id);
CREATE INDEX entitlements_of_an_order ON entitlements (account_id, order_id) WHERE order_id IS NOT NULL;
