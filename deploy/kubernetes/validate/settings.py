"""docs/configuring.md against what each binary knows: its own word is `--check-config`, with nothing set but what must be."""

import re

from manifests import MICROSERVICES


def of_page(root, facts):
    page = (root / "docs/configuring.md").read_text()
    documented = {name: {} for name in MICROSERVICES}
    for section, readers, rows in re.findall(r"^## \[(.+)\]\n\nRead by (.+)\.\n\n((?:\|.*\n)+)", page, re.M):
        readers = MICROSERVICES if readers == "every microservice" else readers.split(", ")
        for key, default in re.findall(r"^\| `(\w+)` \| (.*?) \|", rows, re.M):
            for reader in set(readers) & set(MICROSERVICES):
                documented[reader][f"{section}.{key}"] = default
    for name in MICROSERVICES:
        known = set(flat(facts.effective(name, facts.environments[name])))
        yield from (f"{one}, which {name} knows, is not in docs/configuring.md" for one in known - set(documented[name]))
        # What is not set and has no default is not printed.
        missing = {one for one, default in documented[name].items() if default} - known
        yield from (f"{name} does not know {one}, which is in docs/configuring.md" for one in missing)


def flat(settings, path=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"
