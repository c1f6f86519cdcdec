#!/bin/bash
# The standby's entrypoint: copies the primary, and from then on every commit waits for the standby.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    until pg_basebackup -D "$PGDATA" -d 'host=primary user=owner application_name=standby' -R --checkpoint=fast; do sleep 1; done
    psql -h primary -U owner -d payments -c "ALTER SYSTEM SET synchronous_standby_names = 'standby'" -c 'SELECT pg_reload_conf()'
fi
exec postgres
