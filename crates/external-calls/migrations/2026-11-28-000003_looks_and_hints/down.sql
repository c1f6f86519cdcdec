ALTER TABLE external_calls
    DROP COLUMN outside_id,
    DROP COLUMN only_look,
    DROP COLUMN looks,
    DROP COLUMN leased,
    DROP COLUMN hinted;
