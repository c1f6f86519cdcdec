"""Checks the pages' relative links, their anchors, and the tests that they name."""

import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
pages = subprocess.run(["git", "ls-files", "*.md"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
wrong = []


def anchors(path):
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).replace(" ", "-") for head in heads}


for page in pages:
    text = re.sub(r"^```.*?^```$", "", (root / page).read_text(), flags=re.S | re.M)
    for name, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (root / page).parent / path if path else root / page
        if not file.exists():
            wrong.append(f"{page}: {target} does not exist")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            wrong.append(f"{page}: {target} names no heading of that page")
        elif re.fullmatch(r"[a-z0-9_]+", name) and "_" in name and "tests/" in target and file.is_file():
            if f"fn {name}(" not in file.read_text():
                wrong.append(f"{page}: {target} has no test {name}")
sys.exit("\n".join(wrong) if wrong else 0)
