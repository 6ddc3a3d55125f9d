"""Holds deploy/ against what Carillon really is, and shows that each check bites.

First everything is checked as it is. Then one thing after the other is spoiled in a copy (mutations.py), and each time
a problem has to be found, and the right one: a check that cannot fail would be worth nothing.
"""

import pathlib
import shutil
import sys
import tempfile
import time

import checks
import ingress
import metrics
import mutations
import scaling
import settings
import toolbox
from facts import Facts
from manifests import Overlay

ROOT = pathlib.Path(__file__).resolve().parents[3]
OVERLAYS = ["local", "production"]
CHECKS = [
    checks.schemas,
    checks.references,
    checks.hardening,
    checks.configuration,
    checks.ports_and_paths,
    checks.grace,
    ingress.paths,
    ingress.bodies,
    scaling.scalers,
    scaling.room,
    toolbox.commands,
]


def problems(root, facts, overlays=OVERLAYS):
    """Everything that is wrong below this folder, a line each."""
    found = []
    for name in overlays:
        try:
            overlay = Overlay(root, name, facts)
        except ValueError as error:
            found.append(f"{name}: {error}")
            continue
        for check in CHECKS:
            found += [f"{name}: {check.__name__}: {problem}" for problem in check(overlay, facts)]
        found += [f"{name}: metrics: {problem}" for problem in metrics.of_manifests(overlay, root)]
    found += [f"settings: {problem}" for problem in settings.of_page(root, facts)]
    found += [f"dashboard: {problem}" for problem in metrics.of_dashboard(root)]
    return found


def spoiled(mutation, facts):
    """What is found once this is spoiled."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for part in ["deploy", "docs"]:
            shutil.copytree(ROOT / part, copy / part)
        path = copy / mutation.path
        text = path.read_text()
        if mutation.before not in text:
            return [f"nothing to spoil: {mutation.path} has no {mutation.before!r}"]
        path.write_text(text.replace(mutation.before, mutation.after, 1))
        # Which has all of the base, and the components.
        return problems(copy, facts, ["production"])


def main():
    began = time.monotonic()
    with Facts(ROOT, pathlib.Path(sys.argv[1])) as facts:
        found = problems(ROOT, facts)
        for problem in found:
            print(f"FAILED {problem}")
        passed, failed = 1 - bool(found), int(bool(found))
        for mutation in mutations.MUTATIONS if not found else []:
            told = spoiled(mutation, facts)
            if any(mutation.told in problem for problem in told):
                passed += 1
            else:
                failed += 1
                what = f"{mutation.path}: {mutation.before!r} as {mutation.after!r}"
                print(f"FAILED not found when spoiled: {what}; told instead: {told}")
    print(f"deploy/ was checked, and {len(mutations.MUTATIONS)} ways to spoil it, in {time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
