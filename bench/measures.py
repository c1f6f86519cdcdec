"""The measures. Each measure makes its own database. An `Effort` says how long to measure."""
import json, os, resource, statistics, subprocess, sys, time
from dataclasses import dataclass

import results
from loads import BARE_LIMIT, LIMIT, OPEN_LOOP_CONNECTIONS, check_limit, load, load_command, pgbench
from machine import RELEASE, ROOT, Database, GatewayDouble, Server, note

# More charges a second than any machine makes. The orders are created before the load, which must not run out of them.
MOST_CHARGES = 1000


@dataclass
class Effort:
    """How long to measure."""
    rounds: int
    seconds: float
    records: dict

    def in_turns(self, works):
        """Runs the functions of `works` in turn: A B A B. The first round warms up and does not count."""
        values = {name: [] for name in works}
        for number in range(self.rounds + 1):
            for name, work in works.items():
                value = work()
                note(f"  {name} {value:.0f}/s{'' if number else ' (warming up)'}")
                if number:
                    values[name].append(value)
        return values


FULL = Effort(5, 8, {"1 million": 1_000_000, "10 million": 10_000_000})
QUICK = Effort(2, 1, {"10 thousand": 10_000, "20 thousand": 20_000})


def ratios(values, a, b):
    return [x / y for x, y in zip(values[a], values[b])]


def medians(values):
    return ", ".join(f"{name} {statistics.median(each):.0f}/s" for name, each in values.items())


def per_second(server, work, seconds, **options):
    return lambda: load(server, work, seconds, **options)["per_second"]


class Cpu:
    """Microseconds of CPU for each transaction: of PostgreSQL, the API and the load program. CPU time depends little on other
    programs on the machine and on how long the disk takes for a COMMIT. Throughput depends on both."""

    def __init__(self, cluster, server, seconds):
        self.cluster, self.server, self.seconds, self.used = cluster, server, seconds, {}

    def now(self):
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self.cluster.cpu_seconds(), self.server.cpu_seconds(), ended.ru_utime + ended.ru_stime

    def of(self, name, work):
        def measured():
            before = self.now()
            value = work()
            self.used.setdefault(name, []).append([(b - a) * 1e6 / value / self.seconds for a, b in zip(before, self.now())])
            return value
        return measured

    def ratios(self, a, b):
        """Returns the CPU time of b divided by the CPU time of a, for each round that counts."""
        return [sum(theirs) / sum(ours) for ours, theirs in zip(self.used[a][1:], self.used[b][1:])]

    def tell(self, name):
        parts = [statistics.median(part) for part in zip(*self.used[name][1:])]
        results.spread(f"CPU of {name}, us", [sum(used) for used in self.used[name][1:]], "", "{:.0f} PostgreSQL, {:.0f} API, {:.0f} load".format(*parts), digits=0)


def one_order_as_logged(database):
    """Returns the statements of orders. The last order comes after the connection has prepared its statements."""
    def work():
        with Server(database, pool=1) as server:
            load(server, "orders", 0.5, connections=1)
    return database.statements(work)


def fresh(cluster, effort):
    """Compares a keyed order with PostgreSQL alone doing the same statements, and with the same order without a key."""
    database = Database(cluster, "fresh")
    with Server(database) as server:
        check_limit(one_order_as_logged(database))
        database.file(ROOT / "bench/limit-bare-tables-schema.sql")
        cpu = Cpu(cluster, server, effort.seconds)
        works = {"fresh": per_second(server, "orders", effort.seconds), "limit": lambda: pgbench(database, LIMIT, effort.seconds),
                 "without a key": per_second(server, "keyless", effort.seconds), "limit on bare tables": lambda: pgbench(database, BARE_LIMIT, effort.seconds)}
        values = effort.in_turns({name: cpu.of(name, work) for name, work in works.items()})
        for name, reach in [("limit", ">= .70"), ("limit on bare tables", ">= .78"), ("without a key", ">= .72")]:
            results.spread(f"fresh / {name}", ratios(values, "fresh", name), reach, medians(values) if name == "limit" else "")
        for name in works:
            cpu.tell(name)
        for name in list(works)[1:]:
            results.spread(f"CPU of {name} / of fresh", cpu.ratios("fresh", name))
        results.single("memory of the server under load, MB", f"{server.memory_mb():.0f}", "<= 40")


def replay(cluster, effort):
    database = Database(cluster, "replay")
    with Server(database) as server:
        cpu = Cpu(cluster, server, effort.seconds)
        values = effort.in_turns({name: cpu.of(name, per_second(server, work, effort.seconds)) for name, work in [("replay", "replays"), ("fresh", "orders"), ("read", "reads")]})
        results.spread("replay / fresh", ratios(values, "replay", "fresh"), ">= 8", medians(values))
        results.spread("read / fresh", ratios(values, "read", "fresh"))
        cpu.tell("replay")
        results.spread("CPU of fresh / of replay", cpu.ratios("replay", "fresh"))
        load(server, "replays", 1, keys="replayed")
        before = database.sql("SELECT pg_current_wal_insert_lsn()")
        replays = load(server, "replays", effort.seconds, keys="replayed")["per_second"] * effort.seconds
        wal = database.sql(f"SELECT pg_current_wal_insert_lsn() - '{before}'")
        results.single(f"WAL of {replays:.0f} replays, bytes", wal, "0", "PostgreSQL's own notes of running transactions are in it")


def latency(cluster, effort):
    """Runs the open loop at fixed rates: a quarter, half and three quarters of the closed loop's throughput a moment before."""
    database = Database(cluster, "latency")
    with GatewayDouble() as gateway, Server(database, gateway=gateway) as server:
        for name, work in [("fresh", "orders"), ("replay", "replays"), ("charge", "charges")]:
            ahead = {"orders": int(MOST_CHARGES * effort.seconds)} if work == "charges" else {}
            load(server, work, effort.seconds, **ahead)
            throughput = load(server, work, effort.seconds, **ahead)["per_second"]
            for share, part in [("a quarter", .25), ("half", .5), ("three quarters", .75)]:
                rate = throughput * part
                ahead = {"orders": int(rate * effort.seconds) + 1} if work == "charges" else {}
                results.latency(name, share, rate, load(server, work, effort.seconds, connections=OPEN_LOOP_CONNECTIONS, rate=rate, **ahead))


def charges(cluster, effort):
    """Measures charges with the sandbox gateway, whose tables are on this machine, and with a gateway double without tables."""
    database = Database(cluster, "charges")
    orders = int(MOST_CHARGES * effort.seconds)
    with GatewayDouble() as gateway:
        with Server(database) as sandbox, Server(database, gateway=gateway) as double:
            values = effort.in_turns({"fresh": per_second(double, "orders", effort.seconds), "charges": per_second(double, "charges", effort.seconds, orders=orders),
                                      "charges with the sandbox": per_second(sandbox, "charges", effort.seconds, orders=orders)})
            results.spread("charge / fresh", ratios(values, "charges", "fresh"), "", medians(values))
            results.spread("charge with the sandbox / charge", ratios(values, "charges with the sandbox", "charges"))
        order, charge = round_trips(database, gateway)
    results.single("round trips to PostgreSQL of a charge with two grants", f"{charge:.1f}", "<= 24", f"22 with one grant; an order {order:.1f}")


def round_trips(database, gateway, count=200):
    """Returns the round trips of one order and of one charge, after the connection has prepared its statements. A look of the
    resolver may be counted too."""
    def work():
        with Server(database, pool=1, gateway=gateway) as server:
            load(server, "charges", 5, connections=1, orders=10)
            load(server, "charges", 60, connections=1, orders=count)
    trips = database.statements(work)
    # The load program creates all orders first, then all charges.
    orders = [i for i, text in enumerate(trips) if text.startswith('INSERT INTO "orders"')]
    ends = [i for i, text in enumerate(trips) if text == "COMMIT"]
    first, last = (min(end for end in ends if end > order) for order in (orders[-count], orders[-1]))
    return (last - first) / (count - 1), (len(trips) - 1 - last) / count


def storm(cluster, effort):
    """Sends 200 duplicates of one slow charge beside a steady load of other keys, on a pool of 10 connections."""
    database = Database(cluster, "storm")
    calm, stormy, tails = [], [], []
    with Server(database, pool=10) as server:
        for number in range(effort.rounds + 1):
            # A slow charge takes three seconds, so the load lasts four.
            quiet = load(server, "orders", 4, connections=16)
            duplicates = subprocess.Popen(load_command(server, "storm", 4, connections=200), stdout=subprocess.PIPE, text=True)
            busy = load(server, "orders", 4, connections=16)
            answers = json.loads(duplicates.communicate()[0])["statuses"]
            if answers != {"201": 200}:
                sys.exit(f"the storm's duplicates were answered {answers}")
            if number:
                calm.append(quiet["per_second"]), stormy.append(busy["per_second"]), tails.append(busy["p99_ms"] / quiet["p99_ms"])
    results.spread("other keys in the storm / calm", [s / c for s, c in zip(stormy, calm)], ">= .97", "200 duplicates, all answered 201")
    results.spread("their p99 in the storm / calm", tails, "< 2")


def fill(database, count):
    """Inserts records of other keys, which live for a day."""
    for start in range(0, count, 1_000_000):
        database.sql(f"""INSERT INTO idempotency_keys (account_id, scope, key, id, route, request_id, fingerprint_version, fingerprint, status, content_type, body, created_at, expires_at)
            SELECT '01990000-0000-7000-8000-000000000001', 'account', gen_random_uuid()::text, gen_random_uuid(), 'POST /v1/orders', gen_random_uuid(), 1, sha256(n::text::bytea), 201,
                   'application/json', convert_to(repeat('x', 600), 'UTF8'), now(), now() + interval '24 hours' + n * interval '1 millisecond' FROM generate_series(1, {min(1_000_000, count - start)}) n""")
    database.sql("VACUUM ANALYZE idempotency_keys")
    database.sql("CHECKPOINT")


def growth(cluster, effort):
    """Measures fresh orders in empty and full tables. Each size has its own database. One server runs at a time."""
    databases = {name: Database(cluster, name) for name in ["empty", *effort.records]}
    for name, database in databases.items():
        with Server(database):
            pass  # The start migrates the database.
        if name in effort.records:
            note(f"filling {name} records ..")
            fill(database, effort.records[name])

    def fresh_in(database):
        def work():
            with Server(database) as server:
                load(server, "orders", 1)
                return load(server, "orders", effort.seconds)["per_second"]
        return work
    values = effort.in_turns({name: fresh_in(database) for name, database in databases.items()})
    for name in effort.records:
        results.spread(f"fresh at {name} records / empty", ratios(values, name, "empty"), ">= .90" if name == "10 million" else "", medians(values))
    for database in databases.values():
        database.drop()


def sweep(cluster, effort):
    """Measures how many records a second `payments sweep` deletes, and how much slower orders are while the server's own sweeper
    works."""
    database = Database(cluster, "sweep")
    # More records than a replica sweeps in a round during the load. `payments sweep` alone needs a second or two for them.
    count = 50_000 if effort is QUICK else 400_000
    # The sweeper rests nine times as long as it works, so a short round may see no sweep at all.
    seconds = max(effort.seconds, 12)
    with Server(database):
        pass  # The start migrates the database.

    def expire():
        database.sql("UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE body = convert_to(repeat('x', 600), 'UTF8')")
        database.sql("VACUUM ANALYZE idempotency_keys")
        database.sql("CHECKPOINT")

    def expired():
        return int(database.sql("SELECT count(*) FROM idempotency_keys WHERE expires_at <= now()"))
    rates, losses = [], []
    for _ in range(effort.rounds):
        fill(database, count)
        expire()
        started = time.monotonic()
        subprocess.run([RELEASE / "payments", "sweep"], env=dict(os.environ, DATABASE_URL=database.url), check=True, stdout=subprocess.DEVNULL)
        rates.append(count / (time.monotonic() - started))
    for _ in range(effort.rounds):
        fill(database, count)
        with Server(database, SWEEP_INTERVAL="86400") as server:
            load(server, "orders", 2)
            quiet = load(server, "orders", seconds)["per_second"]
        expire()
        with Server(database, SWEEP_INTERVAL="1") as server:
            load(server, "orders", 2)
            before = expired()
            busy = load(server, "orders", seconds)["per_second"]
            swept = before - expired()
        if swept == 0:
            sys.exit("the sweeper did not work beside the load")
        losses.append(busy / quiet)
    results.spread("records a second that a sweep deletes", rates, ">= 200000", digits=0)
    results.spread("fresh beside the sweeper / alone", losses, ">= .95")
