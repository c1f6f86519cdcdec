-- Sets the limits of every connection on the role. The program sets the same limits when it connects, but they may get
-- lost: a pooler in transaction mode gives each transaction another server connection, and Citus does not pass a
-- session's settings on to its workers. The role's settings reach both.
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -v role=payments -f deploy/limits.sql
--
-- A migration may take longer than these limits. Run `payments migrate` as another role (the owner of the tables), without a
-- pooler.
ALTER ROLE :"role" SET statement_timeout = '5s';
ALTER ROLE :"role" SET lock_timeout = '3s';
ALTER ROLE :"role" SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE :"role" SET default_transaction_isolation = 'read committed';
ALTER ROLE :"role" SET tcp_keepalives_idle = 5;
ALTER ROLE :"role" SET tcp_keepalives_interval = 1;
ALTER ROLE :"role" SET tcp_keepalives_count = 3;
ALTER ROLE :"role" SET tcp_user_timeout = '8s';
