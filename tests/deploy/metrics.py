"""The metrics that the coordinator exports, read from its source."""

import functools
import re

import tools

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


@functools.cache
def exported():
    """{family: type}"""
    source = "".join((tools.ROOT / "coordinator/server" / name).read_text()
                     for name in ("metrics.cc", "step_metrics.cc"))
    found = {name: "histogram" for name in
             re.findall(r'Add(?:Histogram|Family)\(registry_?, "(kvec_\w+)"', source)}
    found.update({name: "counter" for name in
                  re.findall(r'BuildCounter\(\)\s*\.Name\("(kvec_\w+)"', source)})
    found.update({name: kind.lower() for kind, name in
                  re.findall(r'MetricType::(\w+), "(kvec_\w+)"', source)})
    # A name that none of these patterns knows must not go unseen.
    assert set(re.findall(r'"(kvec_\w+)"', source)) == set(found), "metrics: unknown pattern"
    return found


def series():
    """The names that a query may use."""
    return {name + suffix for name, kind in exported().items()
            for suffix in SUFFIXES.get(kind, ("",))}
