-- Nothing to undo: the migration only looks.
SELECT 1;
