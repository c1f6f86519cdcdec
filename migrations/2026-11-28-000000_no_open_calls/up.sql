-- The calls that 0.1.0 left open are of another form, and only 0.1.0 can finish them. This runs before anything is renamed, so
-- that 0.1.0 still runs on the database after the stop.
DO $$
BEGIN
    IF to_regclass('settlements') IS NOT NULL THEN
        IF EXISTS (SELECT FROM settlements WHERE settled_at IS NULL) THEN
            RAISE EXCEPTION 'some charges or refunds of version 0.1.0 have no outcome yet, and only 0.1.0 can finish them: run its `payments settle` first, then migrate again';
        END IF;
    END IF;
END $$;
