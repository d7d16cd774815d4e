"""deploy/kubernetes: what kubectl would send is valid, refers to what is there, starts our programs
with flags that they take, and is locked down."""

import functools
import json
import pathlib
import re
import sys
import unittest

import jsonschema
import kubernetes_validate

import manifests
import metrics
import tools

CUSTOM = {"LeaderWorkerSet", "ServiceMonitor"}
SCHEMAS = pathlib.Path(__file__).parent / "schemas"


def matches(selector, labels):
    """Whether a label selector selects; the empty one selects everything."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def labels(template):
    return template["metadata"]["labels"]


def flag(arguments, name):
    """The value of --name=value."""
    found = [item.partition("=")[2] for item in arguments if item.startswith(f"--{name}=")]
    assert len(found) == 1, f"--{name}: {found}"
    return found[0]


def is_secured(folder):
    """Whether clients are asked for TLS and tokens: components/security."""
    return any(item.startswith("--tls-cert=") for _, template in manifests.pods(folder)
               for container in manifests.containers(template)
               for item in container.get("args", []))


def each_pod(test):
    """Runs the test for every pod template: test(self, folder, template)."""
    @functools.wraps(test)
    def run(self):
        for folder in manifests.DEPLOYMENTS:
            for name, template in manifests.pods(folder):
                with self.subTest(name):
                    test(self, folder, template)
    return run


def each_container(*names):
    """Runs the test for every container of these names, or every one: test(self, folder, template,
    container)."""
    def decorate(test):
        @functools.wraps(test)
        @each_pod
        def run(self, folder, template):
            for container in manifests.containers(template):
                if not names or container["name"] in names:
                    with self.subTest(container["name"]):
                        test(self, folder, template, container)
        return run
    return decorate


class ValidityTest(unittest.TestCase):

    def test_every_object_is_what_its_kind_allows(self):
        for folder in manifests.DEPLOYMENTS:
            for item in manifests.objects(folder):
                with self.subTest(f"{folder}: {item['kind']}"):
                    if item["kind"] in CUSTOM:
                        schema = json.loads((SCHEMAS / f"{item['kind'].lower()}.json").read_text())
                        jsonschema.validate(item, schema)
                    else:
                        kubernetes_validate.validate(item, "1.37", strict=True)

    @each_pod
    def test_the_pods_of_custom_kinds_are_pods(self, _folder, template):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "pod", **template["metadata"]}
        kubernetes_validate.validate(pod, "1.37", strict=True)

    def test_an_unknown_field_is_not_taken(self):
        item = manifests.of_kind("overlays/gpu-multi-node", "LeaderWorkerSet")[0]
        schema = json.loads((SCHEMAS / "leaderworkerset.json").read_text())
        item["spec"]["leaderWorkerTemplate"]["restarts"] = 1
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(item, schema)


class ReferenceTest(unittest.TestCase):

    @each_pod
    def test_config_maps_claims_and_accounts_exist(self, folder, template):
        base = {(item["kind"], item["metadata"]["name"])
                for item in manifests.objects("overlays/gpu-single-node")}
        there = {(item["kind"], item["metadata"]["name"]) for item in manifests.objects(folder)}
        if folder in manifests.EVALUATIONS:  # runs beside a deployment
            there |= base
        spec = template["spec"]
        self.assertIn(("ServiceAccount", spec["serviceAccountName"]), there)
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                self.assertIn(("PersistentVolumeClaim", claim), there)
        for container in manifests.containers(template):
            for source in container.get("envFrom", []):
                self.assertIn(("ConfigMap", source["configMapRef"]["name"]), there)
            for mount in container["volumeMounts"]:
                self.assertIn(mount["name"], [volume["name"] for volume in spec["volumes"]])

    def test_everything_is_in_one_namespace(self):
        for folder in manifests.DEPLOYMENTS:
            for item in manifests.objects(folder):
                if item["kind"] != "Namespace":
                    self.assertEqual(item["metadata"]["namespace"], "kvec", item["kind"])

    def test_services_monitors_and_budgets_select_what_is_there(self):
        for name in manifests.OVERLAYS:
            folder = f"overlays/{name}"
            templates = [template for _, template in manifests.pods(folder)]
            services = manifests.of_kind(folder, "Service")
            for service in services:
                selector = {"matchLabels": service["spec"]["selector"]}
                chosen = [item for item in templates if matches(selector, labels(item))]
                self.assertEqual(len(chosen), 1, service["metadata"]["name"])
                ports = {port["name"] for container in manifests.containers(chosen[0])
                         for port in container.get("ports", [])}
                targets = {port["targetPort"] for port in service["spec"]["ports"]}
                self.assertLessEqual(targets, ports)
            for monitor in manifests.of_kind(folder, "ServiceMonitor"):
                chosen = [service for service in services
                          if matches(monitor["spec"]["selector"], service["metadata"]["labels"])]
                self.assertEqual([service["metadata"]["name"] for service in chosen],
                                 ["kvec-metrics"])
                self.assertEqual([end["port"] for end in monitor["spec"]["endpoints"]],
                                 [port["name"] for port in chosen[0]["spec"]["ports"]])
            budget = manifests.of_kind(folder, "PodDisruptionBudget")[0]["spec"]
            for template in templates:
                self.assertTrue(matches(budget["selector"], labels(template)))

    def test_autoscalers_scale_what_is_there_by_a_gauge_of_the_coordinator(self):
        for name in ("gpu-single-node", "gpu-multi-node", "gpu-multi-node-rdma"):
            folder = f"overlays/{name}"
            scaler = manifests.of_kind(folder, "HorizontalPodAutoscaler")[0]["spec"]
            target = scaler["scaleTargetRef"]
            found = manifests.of_kind(folder, target["kind"])[0]
            self.assertEqual((found["apiVersion"], found["metadata"]["name"]),
                             (target["apiVersion"], target["name"]))
            # An applied replica count would undo what was scaled.
            self.assertNotIn("replicas", found["spec"])
            for metric in scaler["metrics"]:
                self.assertEqual(metrics.exported()[metric["pods"]["metric"]["name"]], "gauge")


class ProgramTest(unittest.TestCase):

    @each_container("coordinator", "worker")
    def test_the_programs_take_their_arguments(self, folder, _template, container):
        arguments = manifests.arguments(folder, container)
        self.assertRegex(flag(arguments, "model"), "^/models/")
        arguments = [re.sub("^--model=.*", "--model=/no/such/model", item) for item in arguments]
        code, output = tools.run(tools.program(f"kvec-{container['name']}"), *arguments)
        self.assertEqual(code, 1, output)  # 2 is wrong usage
        self.assertIn("/no/such/model", output)

    def test_an_argument_that_they_do_not_have_is_noticed(self):
        for program in ("coordinator", "worker"):
            code, _ = tools.run(tools.program(f"kvec-{program}"), "--model=/no/such/model",
                                "--no-such-flag")
            self.assertEqual(code, 2)

    @each_container("run", "report")
    def test_kvec_eval_takes_its_arguments(self, _folder, _template, container):
        sys.path.insert(0, str(tools.ROOT / "tests" / "longcontext"))
        try:
            from kvec_eval import cli
        except ImportError as error:
            self.skipTest(f"{error}; pip install tests/longcontext")
        options = cli.parser().parse_args(container["args"])
        self.assertEqual(options.command, container["name"])
        if options.command == "run":
            suite = pathlib.Path(options.suite)
            self.assertEqual(suite.parent, pathlib.Path("/opt/kvec/suites"))
            self.assertTrue((tools.ROOT / "tests/longcontext/suites" / suite.name).exists())

    def test_a_worker_finds_the_coordinator_of_its_group(self):
        for name in manifests.OVERLAYS:
            folder = f"overlays/{name}"
            found = {container["name"]: manifests.arguments(folder, container)
                     for _, template in manifests.pods(folder)
                     for container in manifests.containers(template)}
            host, _, port = flag(found["coordinator"], "cluster-listen").rpartition(":")
            target, _, target_port = flag(found["worker"], "coordinator").rpartition(":")
            self.assertEqual(port, target_port)
            # Loopback within a pod, the leader's name across pods.
            self.assertIn((host, target),
                          [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "kvec-0.kvec.kvec")])
            one_pod = len(manifests.pods(folder)) == 1
            self.assertEqual(host == "127.0.0.1", one_pod)

    def test_a_group_has_as_many_workers_as_its_shape(self):
        for name in manifests.OVERLAYS:
            folder = f"overlays/{name}"
            shape = re.fullmatch(r"tp=(\d+),pp=(\d+)", manifests.settings(folder)["PARALLEL"])
            workers = int(shape[1]) * int(shape[2])
            sets = manifests.of_kind(folder, "LeaderWorkerSet")
            size = sets[0]["spec"]["leaderWorkerTemplate"]["size"] if sets else 2
            self.assertEqual(size, 1 + workers, name)

    @each_container("worker")
    def test_a_worker_on_processors_is_told_its_limits(self, folder, _template, container):
        arguments = manifests.arguments(folder, container)
        if "--device=cuda" in arguments:
            self.assertEqual(container["resources"]["limits"]["nvidia.com/gpu"], "1")
            return
        self.assertEqual(flag(arguments, "threads"), container["resources"]["limits"]["cpu"])
        self.assertLess(int(flag(arguments, "kv-bytes")),
                        quantity(container["resources"]["limits"]["memory"]))


def quantity(text):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


class LifecycleTest(unittest.TestCase):

    @each_container("coordinator")
    def test_a_coordinator_is_ready_and_alive_by_grpc_health(
            self, folder, _template, container):
        proto = (tools.ROOT / "proto/kvec/v1/inference.proto").read_text()
        package = re.search(r"^package ([\w.]+);", proto, re.MULTILINE)[1]
        service = package + "." + re.search(r"^service (\w+)", proto, re.MULTILINE)[1]
        arguments = manifests.arguments(folder, container)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        self.assertEqual(flag(arguments, "listen"), f"0.0.0.0:{ports['grpc']}")
        self.assertEqual(flag(arguments, "metrics-listen"), f"0.0.0.0:{ports['metrics']}")
        if is_secured(folder):  # a kubelet can't ask over TLS
            local = flag(arguments, "local-listen")
            self.assertRegex(local, "^127.0.0.1:")
            command = container["readinessProbe"]["exec"]["command"]
            self.assertEqual(command, ["kvec", "status", f"--target={local}", "--wait-ready=1"])
            code, output = tools.run(tools.program("kvec"), *command[1:])
            self.assertEqual(code, 1, output)
            self.assertIn("no coordinator answers there", output)
        else:
            self.assertEqual(container["readinessProbe"]["grpc"],
                             {"port": ports["grpc"], "service": service})
        source = (tools.ROOT / "coordinator/server/serving_health.h").read_text()
        liveness = re.search(r'kLiveness\[\] = "([\w.]+)"', source)[1]
        for probe in ("startupProbe", "livenessProbe"):
            if is_secured(folder):
                self.assertEqual(container[probe]["httpGet"], {"port": "metrics", "path": "/metrics"})
                self.assertNotIn("grpc", container[probe])
            else:
                self.assertEqual(container[probe]["grpc"],
                                 {"port": ports["grpc"], "service": liveness})

    @each_container("coordinator")
    def test_running_answers_get_the_time_that_draining_takes(self, folder, template, container):
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(command[0], "sleep")
        drain = float(flag(manifests.arguments(folder, container), "drain-seconds"))
        self.assertGreaterEqual(template["spec"]["terminationGracePeriodSeconds"],
                                int(command[1]) + drain + 10)

    @each_container("worker")
    def test_a_worker_outlives_the_coordinator_in_its_pod(self, _folder, template, container):
        if any(other["name"] == "coordinator" for other in template["spec"]["containers"]):
            self.assertIn(container, template["spec"]["initContainers"])
            self.assertEqual(container["restartPolicy"], "Always")

    def test_groups_over_nodes_recover_by_themselves(self):
        for name in ("gpu-multi-node", "gpu-multi-node-rdma"):
            spec = manifests.of_kind(f"overlays/{name}", "LeaderWorkerSet")[0]["spec"]
            self.assertEqual(spec["leaderWorkerTemplate"]["restartPolicy"], "None")
            # The leader is ready once its workers are there.
            self.assertEqual(spec["startupPolicy"], "LeaderCreated")


class SecurityTest(unittest.TestCase):

    @each_pod
    def test_every_pod_is_locked_down(self, _folder, template):
        spec = template["spec"]
        self.assertIs(spec["automountServiceAccountToken"], False)
        self.assertIs(spec["enableServiceLinks"], False)
        self.assertTrue({"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec))
        context = spec["securityContext"]
        self.assertIs(context["runAsNonRoot"], True)
        self.assertGreaterEqual(context["runAsUser"], 10000)
        self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertFalse([volume for volume in spec["volumes"] if "hostPath" in volume])

    @each_container()
    def test_every_container_is_locked_down(self, _folder, _template, container):
        self.assertEqual(container["securityContext"], {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]}})
        self.assertIn("memory", container["resources"]["limits"])
        self.assertRegex(container["image"], r":\d+\.\d+\.\d+$")

    @each_container()
    def test_only_what_fetches_the_model_may_write_it(self, _folder, _template, container):
        for mount in container["volumeMounts"]:
            if mount["name"] == "model":
                self.assertEqual(mount.get("readOnly", False), container["name"] != "fetch-model")

    @each_container("worker")
    def test_workers_share_memory_that_fits_their_limit(self, _folder, template, container):
        mount = [item for item in container["volumeMounts"] if item["mountPath"] == "/dev/shm"][0]
        volume = [item for item in template["spec"]["volumes"] if item["name"] == mount["name"]][0]
        self.assertEqual(volume["emptyDir"]["medium"], "Memory")
        self.assertLess(quantity(volume["emptyDir"]["sizeLimit"]),
                        quantity(container["resources"]["limits"]["memory"]))

    def test_the_namespace_refuses_pods_with_privileges(self):
        for name in manifests.OVERLAYS:
            namespace = manifests.of_kind(f"overlays/{name}", "Namespace")[0]["metadata"]
            level = namespace["labels"]["pod-security.kubernetes.io/enforce"]
            self.assertEqual(level, "restricted")


class SecurityTest(unittest.TestCase):
    # What Secrets hold, by their names.
    KEYS = {"kvec-tls": {"ca.crt", "tls.crt", "tls.key"}, "kvec-tokens": {"tokens"},
            "kvec-join": {"token"}, "kvec-client": {"ca.crt", "token"}}

    def files(self, template, container):
        """The files of Secrets that a container sees."""
        found = set()
        for mount in container["volumeMounts"]:
            volume = [item for item in template["spec"]["volumes"]
                      if item["name"] == mount["name"]][0]
            if "secret" in volume:
                self.assertTrue(mount["readOnly"])
                self.assertEqual(volume["secret"]["defaultMode"], 0o440)
                keys = self.KEYS[volume["secret"]["secretName"]]
                if "items" in volume["secret"]:
                    chosen = {item["key"] for item in volume["secret"]["items"]}
                    self.assertLessEqual(chosen, keys)
                    keys = {item["path"] for item in volume["secret"]["items"]}
                found |= {f"{mount['mountPath']}/{key}" for key in keys}
        return found

    def test_deployments_for_gpus_are_secured(self):
        self.assertEqual([name for name in manifests.OVERLAYS if is_secured(f"overlays/{name}")],
                         ["gpu-multi-node", "gpu-multi-node-rdma", "gpu-single-node"])

    @each_container("coordinator")
    def test_what_is_reachable_has_tls_and_tokens_or_says_so(self, folder, _template, container):
        arguments = manifests.arguments(folder, container)
        self.assertEqual("--insecure" in arguments, not is_secured(folder))
        if not is_secured(folder):
            return
        self.assertEqual(flag(arguments, "tokens"), "/tokens/tokens")
        across_pods = flag(arguments, "cluster-listen").startswith("0.0.0.0")
        self.assertEqual(any(item.startswith("--cluster-tls-cert=") for item in arguments),
                         across_pods)

    @each_container()
    def test_certificates_and_tokens_are_there_and_no_others(self, folder, template, container):
        named = {item.partition("=")[2] for item in manifests.arguments(folder, container)
                 if re.match("--(cluster-)?tls-(cert|key|ca)=|--tokens=|--[a-z-]*token-file=", item)}
        there = self.files(template, container)
        self.assertLessEqual(named, there)
        self.assertLessEqual(there - named, {"/tls/ca.crt"})  # kvec-tls as it comes
        if container["name"] != "coordinator":
            self.assertEqual({path for path in there if path.endswith(".key")}, set())

    def test_the_service_says_what_it_speaks(self):
        for name in manifests.OVERLAYS:
            folder = f"overlays/{name}"
            service = [item for item in manifests.of_kind(folder, "Service")
                       if item["metadata"]["name"] == "kvec"][0]
            self.assertEqual(service["spec"]["ports"][0]["appProtocol"],
                             "https" if is_secured(folder) else "kubernetes.io/h2c")

    @each_container("worker")
    def test_a_worker_knows_its_coordinator(self, folder, _template, container):
        arguments = manifests.arguments(folder, container)
        if is_secured(folder) and not flag(arguments, "coordinator").startswith("127."):
            self.assertEqual(flag(arguments, "tls-server-name"), "kvec")
            self.assertEqual(flag(arguments, "join-token-file"), "/join/token")


class NetworkTest(unittest.TestCase):
    CLIENT = {"matchLabels": {"kvec-client": "true"}}
    WORKERS = {"matchLabels": {"app.kubernetes.io/name": "kvec",
                               "app.kubernetes.io/component": "worker"}}

    def admitted(self, folder, template):
        """{port: peers} of who may connect to a pod; port None: any port."""
        found = {}
        for policy in manifests.of_kind(folder, "NetworkPolicy"):
            if matches(policy["spec"]["podSelector"], labels(template)):
                for rule in policy["spec"].get("ingress", []):
                    for port in rule.get("ports", [{"port": None}]):
                        found.setdefault(port["port"], []).extend(rule["from"])
        return found

    def test_every_pod_is_closed_but_for_exceptions(self):
        for name in manifests.OVERLAYS:
            folder = f"overlays/{name}"
            closed = [policy["spec"] for policy in manifests.of_kind(folder, "NetworkPolicy")
                      if policy["metadata"]["name"] == "kvec-deny-all"][0]
            self.assertEqual(closed["policyTypes"], ["Ingress", "Egress"])
            self.assertTrue({"ingress", "egress"}.isdisjoint(closed))
            for source in (folder, *manifests.EVALUATIONS):
                for _, template in manifests.pods(source):
                    self.assertTrue(matches(closed["podSelector"], labels(template)))

    @each_container("coordinator")
    def test_a_coordinator_is_open_to_clients_monitoring_and_its_workers(
            self, folder, template, container):
        monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
        expected = {"grpc": [{"podSelector": self.CLIENT}, {"namespaceSelector": self.CLIENT}],
                    "metrics": [{"namespaceSelector": monitoring}]}
        if "cluster" in [port["name"] for port in container["ports"]]:
            expected["cluster"] = [{"podSelector": self.WORKERS}]
        self.assertEqual(self.admitted(folder, template), expected)

    @each_container("worker")
    def test_a_worker_is_open_to_workers_only(self, folder, template, _container):
        if labels(template)["app.kubernetes.io/component"] == "worker":
            self.assertEqual(self.admitted(folder, template),
                             {None: [{"podSelector": self.WORKERS}]})

    def test_the_evaluation_is_a_client(self):
        for folder in manifests.EVALUATIONS:
            for _, template in manifests.pods(folder):
                self.assertTrue(matches(self.CLIENT, labels(template)))


if __name__ == "__main__":
    tools.kubectl()
    tools.program("kvec-coordinator")
    tools.program("kvec-worker")
    unittest.main(verbosity=2)
