"""Writes the series of an incident from Prometheus as a file for `promtool test rules`: the page fires in it, and then ends."""
import json
import math
import re
import urllib.parse
import urllib.request

# What alerts.yml reads. Requests are kept without their routes. The health checks and the metrics are left out.
SERIES = {
    "up": "up",
    "db_ready": "db_ready",
    "db_failing": "max by (job, instance, cause) (db_failing)",
    "http_refused_total": 'http_refused_total{cause=~"lock_timeout|statement_timeout"}',
    "db_refusals_total": "db_refusals_total",
    "http_request_duration_seconds_count": 'sum by (job, instance, status) (http_request_duration_seconds_count{route!~"/health/.*|/metrics"})',
    "resolver_unknown_total": "resolver_unknown_total",
    "resolver_resolved_total": "resolver_resolved_total",
    "resolver_parked": "resolver_parked",
    "resolver_backlog": "resolver_backlog",
    "resolver_backlog_oldest_seconds": "resolver_backlog_oldest_seconds",
    "gateway_differences_total": "gateway_differences_total",
    "sweeper_lag_seconds": "sweeper_lag_seconds",
}


def values(samples, begin, count, every):
    """In promtool's notation: a missing sample is `_`, and `0x9` is ten zeros."""
    by_step = {round((moment - begin) / every): value for moment, value in samples}
    words = [by_step.get(step, "_") for step in range(count)]
    runs = []
    for word in words:
        if runs and runs[-1][0] == word:
            runs[-1][1] += 1
        else:
            runs.append([word, 1])
    return " ".join(word if times == 1 else f"_x{times}" if word == "_" else f"{word}x{times - 1}" for word, times in runs)


def write(world, folder, name, page, times, every):
    """`times`: the load began, the incident began, its page fired, the incident ended, and no page fires any more."""
    begin, end = times[0], times[4]
    count = math.floor((end - begin) / every) + 1
    lines = []
    for metric, query in SERIES.items():
        asked = urllib.parse.urlencode({"query": query, "start": begin, "end": end, "step": every})
        with urllib.request.urlopen(f"http://127.0.0.1:{world.prometheus}/api/v1/query_range?{asked}") as answer:
            rows = json.load(answer)["data"]["result"]
        for row in rows:
            labels = {key: value for key, value in row["metric"].items() if key != "__name__"}
            labels["instance"] = "ab"[[f"127.0.0.1:{port}" for port in world.api].index(labels["instance"])]
            if metric.startswith("http_request"):
                labels["route"] = "/v1/orders"
            # Most causes never come. One zero in each recording is enough.
            if metric == "db_failing" and labels["cause"] != "queue" and all(float(value) == 0 for _, value in row["values"]):
                continue
            text = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            lines.append(f"      - {{series: '{metric}{{{text}}}', values: '{values(row['values'], begin, count, every)}'}}")
    at = lambda moment: f"{int(moment - begin) // every * every}s"
    # The page ends with the incident, so its time differs by a step or two from run to run.
    fired = f'count(count_over_time(ALERTS{{alertname="{page}", alertstate="firing"}}[{at(end)}])) > bool 0'
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub("[^a-z]+", "-", name.lower()).strip("-")
    (folder / f"{slug}.yml").write_text(
        f"# Recorded by deploy/incidents, every {every} s: {name}.\nrule_files: [../alerts.yml]\nevaluation_interval: {every}s\ntests:\n"
        f"  - interval: {every}s\n    input_series:\n" + "\n".join(lines) + "\n    promql_expr_test:\n"
        f"      # Before it begins nothing pages; then its page has fired, and when it is over nothing pages.\n"
        f"      - {{expr: 'count(ALERTS{{alertstate=\"firing\", severity=\"page\"}})', eval_time: {at(times[1])}, exp_samples: []}}\n"
        f"      - {{expr: '{fired}', eval_time: {at(end)}, exp_samples: [{{value: 1}}]}}\n"
        f"      - {{expr: 'count(ALERTS{{alertstate=\"firing\", severity=\"page\"}})', eval_time: {at(end)}, exp_samples: []}}\n")
