"""Starts and stops what a measurement needs: its own PostgreSQL cluster, the API in release, and a gateway double."""
import os, pathlib, re, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"
DEBIAN = pathlib.Path("/usr/lib/postgresql")
BIN = max(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name)) if DEBIAN.exists() else pathlib.Path(os.path.dirname(shutil.which("initdb") or sys.exit("PostgreSQL's programs are not installed")))

# More than two cores can use, so that the bench shows what many connections cost.
POOL = 32


def note(text):
    print(text, file=sys.stderr, flush=True)


def free_port(variable):
    """Returns the port that the variable names, or a free one."""
    if os.environ.get(variable):
        return int(os.environ[variable])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def refuse_stranger(port):
    """Ends the run if another program already listens at the port: the run would measure that program."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(f"another program already listens at port {port}, and the bench would measure that program. Stop the program, or choose another port.")


def cpu_seconds(pid, with_ended_children=False):
    """Returns the user and system time of a process. 0 if the process has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in fields[11:15 if with_ended_children else 13]) / os.sysconf("SC_CLK_TCK")


class Database:
    """One database of the cluster."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.url = f"postgresql://bench@/{name}?host={cluster.dir}"
        cluster.sql(f'CREATE DATABASE "{name}"', "postgres")

    def sql(self, sql):
        return self.cluster.sql(sql, self.name)

    def file(self, path):
        subprocess.run([BIN / "psql", "-qX", "-v", "ON_ERROR_STOP=1", self.url, "-f", path], check=True)

    def drop(self):
        self.cluster.sql(f'DROP DATABASE "{self.name}"', "postgres")

    def statements(self, work):
        """Returns the statements that the API sends while `work` runs, one text for each round trip. `work` must start the server:
        the setting below only reaches new connections.

        In the simple protocol PostgreSQL logs `statement`, else `parse`, `bind` and `execute`. `bind` and `execute` are one round
        trip, which includes the `parse` of an unnamed statement.
        """
        self.sql(f'ALTER DATABASE "{self.name}" SET log_min_duration_statement = 0')
        try:
            work()
        finally:
            self.sql(f'ALTER DATABASE "{self.name}" RESET log_min_duration_statement')
        line = re.compile(r"^payments LOG:  duration: \S+ ms  (?:parse (?!<unnamed>)\S+|execute \S+|statement): (.*)$", re.MULTILINE)
        return line.findall(self.cluster.log_since_the_last_call())


class Cluster:
    """A new PostgreSQL cluster, deleted at the end. fsync and synchronous_commit are on. It listens at a unix socket only."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="payments-bench-", dir="/var/tmp"))
        self.drop = []
        if os.getuid() == 0:  # PostgreSQL refuses to run as root.
            shutil.chown(self.dir, "postgres")
            self.drop = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        self.dir.chmod(0o711)
        self.run("initdb", "-D", self.dir / "data", "-U", "bench", "--auth", "trust", "--locale", "C", "--encoding", "UTF8")
        # The settings of a small database server.
        settings = f"-c listen_addresses='' -c unix_socket_directories={self.dir} -c max_connections=200 -c shared_buffers=1GB -c max_wal_size=8GB -c log_line_prefix='%a '"
        self.run("pg_ctl", "-D", self.dir / "data", "-o", settings, "-l", self.dir / "log", "-w", "start")
        self.heard = 0

    def run(self, program, *args):
        subprocess.run([*self.drop, BIN / program, *args], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def sql(self, sql, database):
        answer = subprocess.run([BIN / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", f"postgresql://bench@/{database}?host={self.dir}", "-c", sql], check=True, capture_output=True, text=True)
        return answer.stdout.strip()

    def cpu_seconds(self):
        """Returns the CPU seconds of all PostgreSQL processes, also of the ended ones.

        When a process ends, its time moves to the postmaster's. A process that ends between the two reads would be in neither: so the
        reads are repeated until no process has ended meanwhile. pgbench's processes end at just that moment.
        """
        postmaster = int((self.dir / "data/postmaster.pid").read_text().split()[0])
        children = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children")
        while True:
            before = children.read_text()
            seconds = cpu_seconds(postmaster, with_ended_children=True) + sum(cpu_seconds(child) for child in before.split())
            if children.read_text() == before:
                return seconds

    def log_since_the_last_call(self):
        text = (self.dir / "log").read_text(errors="replace")
        new, self.heard = text[self.heard:], len(text)
        return new

    def stop(self):
        self.run("pg_ctl", "-D", self.dir / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)


class Program:
    """A program that listens at a port until `with` ends."""

    def __init__(self, command, port, path="/", **environment):
        refuse_stranger(port)
        self.port = port
        self.process = subprocess.Popen(command, env=dict(os.environ, **environment), stdout=subprocess.DEVNULL)
        for _ in range(400):
            if self.process.poll() is not None:
                sys.exit("the program ended while it started: see its lines above")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}")
                return
            except urllib.error.HTTPError as answer:
                if path == "/":
                    return
                note(f"not ready yet: {answer}")
            except OSError:
                pass
            time.sleep(0.05)
        self.process.kill()
        sys.exit("the program did not become ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


class Server(Program):
    """The API, in release, with the route of the feature `bench`."""

    def __init__(self, database, pool=POOL, gateway=None, **variables):
        # Two servers may run at once. Only the server with the sandbox gateway uses BENCH_PORT.
        port = free_port("BENCH_PORT" if gateway is None else "")
        if gateway is None:
            sandbox = free_port("BENCH_SANDBOX_PORT")
            refuse_stranger(sandbox)
            variables["SANDBOX_BIND"] = f"127.0.0.1:{sandbox}"
        else:
            variables["GATEWAY_URL"] = f"http://127.0.0.1:{gateway.port}"
            variables["GATEWAY_KEY"] = "sk_test_bench"
        # RUST_LOG=warn, or the bench would also measure one log line for each request.
        super().__init__([RELEASE / "payments"], port, "/health/ready", DATABASE_URL=database.url, DEMO="true", RUST_LOG="warn",
                         DB_POOL_SIZE=str(pool), BIND=f"127.0.0.1:{port}", **variables)

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def memory_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


class GatewayDouble(Program):
    """The gateway double of gateway.rs."""

    def __init__(self):
        port = free_port("BENCH_GATEWAY_PORT")
        super().__init__([RELEASE / "examples/gateway-double", str(port)], port)
