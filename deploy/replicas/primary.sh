#!/bin/bash
# PostgreSQL's image runs this once, when the primary's cluster is new.
set -euo pipefail
echo 'host replication all all trust' >>"$PGDATA/pg_hba.conf"
cat /replicas/postgresql.conf >>"$PGDATA/postgresql.conf"
psql -v ON_ERROR_STOP=1 -U owner -d payments -c 'CREATE ROLE payments LOGIN' -c 'GRANT CREATE ON SCHEMA public TO payments' \
    -c 'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO payments'
psql -v ON_ERROR_STOP=1 -U owner -d payments -v role=payments -f /limits.sql
