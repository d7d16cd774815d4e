"""deploy/observability: rules and dashboard are valid and use metrics that the coordinator exports; the
alerts fire when they should."""

import json
import pathlib
import re
import tempfile
import unittest

import yaml

import metrics
import tools

OBSERVABILITY = tools.ROOT / "deploy" / "observability"
RULES = sorted(OBSERVABILITY.glob("*.rules.yaml"))
PROMTOOL = tools.promtool()
# What Grafana puts in before it asks.
VARIABLES = {"$__rate_interval": "5m", "$namespace": "kvec", "$pod": ".*"}


def rules():
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"]
            for rule in group["rules"]]


def panels():
    return json.loads((OBSERVABILITY / "dashboard.json").read_text())["panels"]


def expressions():
    """Every query of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def metric_names(expression):
    return set(re.findall(r"(?<![\w:])kvec_\w+", expression))


class RuleTest(unittest.TestCase):

    def test_promtool_takes_the_rules(self):
        code, output = tools.run(PROMTOOL, "check", "rules", "--lint=all", "--lint-fatal", *RULES)
        self.assertEqual(code, 0, output)

    def test_promtool_takes_the_queries_of_the_dashboard(self):
        group = []
        for index, expression in enumerate(expressions()):
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            self.assertNotIn("$", expression)
            group.append({"record": f"dashboard:{index}", "expr": expression})
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "dashboard.yaml"
            path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": group}]}))
            code, output = tools.run(PROMTOOL, "check", "rules", path)
        self.assertEqual(code, 0, output)

    def test_alerts_fire_and_rates_are_recorded(self):
        code, output = tools.run(PROMTOOL, "test", "rules",
                                 pathlib.Path(__file__).parent / "rules_cases.yaml")
        self.assertEqual(code, 0, output)

    def test_every_alert_has_a_case_in_which_it_fires(self):
        cases = yaml.safe_load((pathlib.Path(__file__).parent / "rules_cases.yaml").read_text())
        fired = {case["alertname"] for group in cases["tests"]
                 for case in group.get("alert_rule_test", []) if case.get("exp_alerts")}
        self.assertEqual(fired, {rule["alert"] for rule in rules() if "alert" in rule})


class MetricTest(unittest.TestCase):

    def test_rules_and_dashboard_use_metrics_that_exist(self):
        for expression in [rule["expr"] for rule in rules()] + expressions():
            with self.subTest(expression):
                self.assertLessEqual(metric_names(expression), metrics.series())
                records = {rule["record"] for rule in rules() if "record" in rule}
                self.assertLessEqual(set(re.findall(r"\w+:kvec_\w+:\w+", expression)), records)

    def test_the_dashboard_shows_every_metric(self):
        shown = set().union(*map(metric_names, expressions()))
        for name in metrics.exported():
            self.assertTrue(any(item.startswith(name) for item in shown), name)

    def test_counters_are_asked_for_their_rate_only(self):
        for expression in [rule["expr"] for rule in rules()] + expressions():
            for name in metric_names(expression):
                if metrics.exported().get(name) == "counter":
                    self.assertRegex(expression, rf"rate\({name}")


class DashboardTest(unittest.TestCase):

    def test_panels_have_ids_of_their_own_and_do_not_overlap(self):
        self.assertEqual(len({panel["id"] for panel in panels()}), len(panels()))
        taken = set()
        for panel in panels():
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"])}
            self.assertLessEqual(at["x"] + at["w"], 24)
            self.assertTrue(taken.isdisjoint(cells), panel["title"])
            taken |= cells

    def test_variables_are_defined(self):
        text = (OBSERVABILITY / "dashboard.json").read_text()
        defined = {item["name"] for item in json.loads(text)["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z]\w*)", text))
        self.assertEqual(used, defined)


if __name__ == "__main__":
    unittest.main(verbosity=2)
