"""Checks deploy/prometheus/alerts.yml: its tests pass; they fail if any one alert is missing, or always fires; and
each alert links to a section of a page."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parents[2]
source = root / "deploy/prometheus"
rules = (source / "alerts.yml").read_text()
head, *alerts = re.split(r"(?m)^(?=      - alert: )", rules)


def passes(alerts):
    with tempfile.TemporaryDirectory() as work:
        folder = shutil.copytree(source, pathlib.Path(work) / "prometheus")
        (folder / "alerts.yml").write_text(head + "".join(alerts))
        for test in [folder / "alerts.test.yml", *sorted(folder.glob("recorded/*.yml"))]:
            said = subprocess.run(["promtool", "test", "rules", test], capture_output=True, text=True)
            if said.returncode:
                break
        return said


wrong = []
said = passes(alerts)
if said.returncode:
    sys.exit(said.stdout + said.stderr)
for place, alert in enumerate(alerts):
    name = alert.split()[2]
    others = alerts[:place], alerts[place + 1 :]
    if passes([*others[0], *others[1]]).returncode == 0:
        wrong.append(f"no test sees {name} fire")
    always = f"      - alert: {name}\n        expr: vector(1)\n        labels: {{severity: page}}\n"
    if passes([*others[0], always, *others[1]]).returncode == 0:
        wrong.append(f"no test sees {name} not fire")
    link = re.search(r"runbook_url: '([^#']+)#([^']+)'", alert)
    page = root / link[1] if link else None
    heads = re.findall(r"(?m)^#+ (.*)$", page.read_text()) if page and page.exists() else []
    if not link or link[2] not in {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in heads}:
        wrong.append(f"{name} links to no section: {link and link[0]}")
sys.exit("\n".join(wrong) if wrong else print(f"{len(alerts)} alerts: each was seen firing and not firing, and has a section"))
