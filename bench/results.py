"""Prints the results as two tables: ratios and latencies."""
import statistics

from machine import note

RATIOS = [("measure", "median", "spread", "reach", "figures")]
LATENCIES = [("open loop", "of the throughput", "due/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms")]


def single(measure, value, reach="", figures=""):
    RATIOS.append((measure, str(value), "", reach, figures))
    note(f"{measure}: {value} {figures}")


def spread(measure, values, reach="", figures="", digits=2):
    """Adds a line with the median of the rounds' values. The spread is the smallest and the largest value."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    RATIOS.append((measure, middle, f"{low} .. {high}", reach, figures))
    note(f"{measure}: {middle} ({low} .. {high}) {figures}")


def latency(work, share, rate, result):
    LATENCIES.append((work, share, f"{rate:.0f}", f"{result['per_second']:.0f}", *(f"{result[p]:.1f}" for p in ("p50_ms", "p99_ms", "p999_ms"))))
    note(" | ".join(LATENCIES[-1]))


def table(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in [lines[0], tuple("-" * width for width in widths), *lines[1:]]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")


def print_all():
    for lines in (RATIOS, LATENCIES):
        if len(lines) > 1:
            print()
            table(lines)
