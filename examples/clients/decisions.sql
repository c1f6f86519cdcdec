-- The client's store as a table, next to the client's other tables. A client commits this row before it sends the first request.
CREATE TABLE decisions (
    -- The client's name for what it decided, for example 'pay order 7'.
    decision text PRIMARY KEY,
    -- The Idempotency-Key of every request for this decision.
    key uuid NOT NULL,
    -- SHA-256 of the path and the body: a decision never gets another request.
    request text NOT NULL,
    -- Runs that may still have a request on its way. A run that died leaves its 1 here.
    open_runs integer NOT NULL
);
