"""Queries of alerts, scalers and the dashboard: each can be read, and asks for metrics and labels that there are.

What there is comes from docs/metrics.md, which a test holds against the code and against what a running Carillon answers.
"""

import json
import re

import promql_parser

from manifests import MICROSERVICES, label

# What Prometheus and the cluster add to everything that they scrape.
ADDED = {"job", "instance", "pod", "namespace", "service", "container", "endpoint"}
SUFFIXES = {"histogram": ["_bucket", "_sum", "_count"], "counter": [""], "gauge": [""]}


def known(root):
    """Every series that there can be, and its labels."""
    series = {}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", (root / "docs/metrics.md").read_text(), re.M)
    for name, kind, labels in rows:
        for suffix in SUFFIXES[kind]:
            series[name + suffix] = set(re.findall(r"`(\w+)`", labels)) | ({"le"} if suffix == "_bucket" else set())
    return series


def of_query(query, series):
    """What is wrong with a query."""
    try:
        tree = promql_parser.parse(query)
    except ValueError as error:
        yield f"{query!r} cannot be read: {error}"
        return
    named = []
    collect(tree, named)
    if not named:
        yield f"{query!r} asks for nothing"
    for name, labels in named:
        if name not in series:
            yield f"there is no metric {name} in docs/metrics.md"
        else:
            yield from (f"{name} has no label {one}" for one in sorted(labels - series[name] - ADDED))


def collect(node, named, by=frozenset()):
    """Every metric in a query, with the labels that are asked of it."""
    kind = type(node).__name__
    if kind == "VectorSelector":
        named.append((node.name, {matcher.name for matcher in node.matchers.matchers} | by))
    elif kind == "MatrixSelector":
        collect(node.vector_selector, named, by)
    elif kind == "SubqueryExpr":
        collect(node.expr, named, by)
    elif kind == "AggregateExpr":
        modifier = node.modifier
        grouped = set(modifier.labels) if modifier and "By" in str(modifier.type) else set()
        collect(node.expr, named, by | grouped)
    elif kind == "BinaryExpr":
        collect(node.lhs, named, by)
        collect(node.rhs, named, by)
    elif kind == "Call":
        for argument in node.args:
            collect(argument, named, by)
    elif kind in ("ParenExpr", "UnaryExpr"):
        collect(node.expr, named, by)


def of_manifests(overlay, root):
    series = known(root)
    for one in overlay.of("ScaledObject"):
        for trigger in one["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield from (f"{label(one)}: {problem}" for problem in of_query(trigger["metadata"]["query"], series))
    alerts = [rule for one in overlay.of("PrometheusRule") for group in one["spec"]["groups"] for rule in group["rules"]]
    for rule in alerts:
        yield from (f"alert {rule['alert']}: {problem}" for problem in of_query(rule["expr"], series))
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        if anchor != rule["alert"].lower() or page != "docs/runbooks.md":
            yield f"alert {rule['alert']} names the runbook {page}#{anchor}"
    if alerts:
        gone = [one for rule in alerts for one in re.findall(r'absent\(\w+{[^}]*job="([^"]+)"', rule["expr"])]
        yield from (f"no alert tells that {name} is gone" for name in MICROSERVICES if name not in gone)
        sections = re.findall(r"^## (\w+)$", (root / "docs/runbooks.md").read_text(), re.M)
        names = [rule["alert"] for rule in alerts]
        yield from (f"alert {name} has no section in docs/runbooks.md" for name in names if name not in sections)
        yield from (f"docs/runbooks.md is about an alert {name} that there is not" for name in sections if name not in names)


def of_dashboard(root):
    series = known(root)
    dashboard = json.loads((root / "deploy/grafana/carillon.json").read_text())
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        if panel["type"] != "row" and not panel.get("targets"):
            yield f"panel {panel['title']!r} asks nothing"
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "5m")
            for name in set(re.findall(r"\$(\w+)", query)) - variables:
                yield f"panel {panel['title']!r}: there is no variable {name}"
            yield from (f"panel {panel['title']!r}: {problem}" for problem in of_query(query, series))
