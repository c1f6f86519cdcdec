CREATE TABLE tickets (
    account_id uuid NOT NULL,
    seat text NOT NULL,
    PRIMARY KEY (account_id, seat)
);
