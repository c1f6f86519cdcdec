"""Prints one table of several reports of idempotency-verify, or compares the table with the page's: a row for each check, and a
column for each peer. A cell says `yes` if every author's rule holds, else whose rule does not."""

import argparse
import json
import pathlib
import sys

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
AUTHORS = {"draft": "draft", "stripe": "Stripe", "this": "this"}


def cell(finding):
    judged = [rule for rule in finding["rules"] if rule["holds"] is not None]
    if not judged:
        return "skipped"
    broken = [AUTHORS[rule["by"]] for rule in judged if not rule["holds"]]
    return "no: " + ", ".join(broken) if broken else "yes"


def findings(folder, peer):
    report = json.loads((folder / f"{peer}.json").read_text())
    return {finding["check"]: finding for finding in report["findings"]}


def rows(folder, peers):
    """The cells of each check, without the checks that no peer can be asked."""
    found = [findings(folder, peer) for peer in peers]
    for check in found[0]:
        cells = [cell(of_peer[check]) for of_peer in found]
        if set(cells) != {"skipped"}:
            yield [f"`{check}`", *cells]


def said(page, peers):
    """The page's cells for these peers."""
    lines = [line.strip("| \n").split(" | ") for line in page.split(BEGIN)[1].split(END)[0].splitlines() if "|" in line]
    columns = [lines[0].index(peer) for peer in peers]
    return {line[0]: [line[column] for column in columns] for line in lines[2:]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("peer", nargs="+")
    args = parser.parse_args()
    table = list(rows(args.folder, args.peer))
    if args.keep:
        for peer in args.peer:
            lines = (f"{cell(found):24} {check:28} {found['seen']}\n" for check, found in findings(args.folder, peer).items())
            (args.keep / f"{peer}.txt").write_text("".join(lines))
    if not args.check:
        for line in [["check", *args.peer], ["---"] * (len(args.peer) + 1), *table]:
            print("|", " | ".join(line), "|")
        return
    page = said(args.check.read_text(), args.peer)
    wrong = [(check, cells, page.get(check)) for check, *cells in table if page.get(check) != cells]
    for check, cells, of_page in wrong:
        print(f"{check}: found {cells}, the page says {of_page}")
    if wrong:
        sys.exit(1)
    print(f"the page's table is right about {', '.join(args.peer)}: {len(table)} checks")


main()
