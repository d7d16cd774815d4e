"""The metrics that the coordinator exports, read from its source."""

import functools
import re

import tools

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


@functools.cache
def exported():
    """{family: type}"""
    source = (tools.ROOT / "coordinator/server/metrics.cc").read_text()
    found = {name: "histogram" for name in
             re.findall(r'AddHistogram\(registry_, "(kvec_\w+)"', source)}
    found.update({name: "counter" for name in
                  re.findall(r'BuildCounter\(\)\s*\.Name\("(kvec_\w+)"', source)})
    found.update({name: kind.lower() for kind, name in
                  re.findall(r'MetricType::(\w+), "(kvec_\w+)"', source)})
    # A name that none of these patterns knows must not go unseen.
    assert set(re.findall(r'"(kvec_\w+)"', source)) == set(found), "metrics.cc: unknown pattern"
    return found


def series():
    """The names that a query may use."""
    return {name + suffix for name, kind in exported().items()
            for suffix in SUFFIXES.get(kind, ("",))}
