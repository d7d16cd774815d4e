"""What one sees of a running kvec: the live table, trace ids through the logs, and metrics of Steps."""

import re
import signal
import unittest
import urllib.request

from processes import wait_until
from service import DEADLINE_SECONDS, Service, model_path, start

MODEL = model_path("smollm2")
LONG = ["--prompt", "A very long story:", "--max-tokens", 4000, "--ignore-eos"]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def value(metrics, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0


class SightTest(unittest.TestCase):

    def test_status_is_watched_until_ctrl_c(self):
        with Service(MODEL) as service:
            stream = service.start_kvec("generate", *LONG)
            stream.stdout.read(20)
            watch = service.start_kvec("status", "--watch", "--interval", 0.2)
            seen = ""
            # Rates come with the second look.
            while not re.search(r"[1-9]\d*\.\d generated tokens/s.*^r-\w+ +decode +\d+ +\d+ +[1-9]",
                                seen, re.MULTILINE | re.DOTALL):
                line = watch.stdout.readline()
                self.assertNotEqual(line, "", seen)
                seen += line
            stream.send_signal(signal.SIGINT)
            stream.wait(DEADLINE_SECONDS)
            stream.stdout.close()
            while watch.stdout.readline() != "no requests\n":
                self.assertIsNone(watch.poll())
            watch.send_signal(signal.SIGINT)
            self.assertEqual(watch.wait(DEADLINE_SECONDS), 0)
            watch.stdout.close()

    def test_a_trace_id_goes_through_all_logs(self):
        debug = ["--log-level", "debug"]
        with Service(MODEL, debug, worker_flags=debug) as service:
            process = start("kvec", "generate", "--target", service.target, "--prompt", "Hello",
                            "--max-tokens", 2, "--request-id", "r-traced",
                            env={"TRACEPARENT": f"00-{TRACE}-00f067aa0ba902b7-01"})
            self.assertEqual(process.wait(DEADLINE_SECONDS), 0)
            service.generate("--prompt", "Hello", "--max-tokens", 2, "--request-id", "r-other")
            log = wait_until(lambda: log if "r-other, trace" in (log := service.log_text())
                             and log.count("finished") == 2 else None, "both requests to be logged")
            for line in ("prompt tokens, at most", "starts as sequence", "finished, "):
                found = re.findall(rf"\] (\S+), trace (\w+): .*{line}", log)
                self.assertEqual(dict(found)["r-traced"], TRACE, line)
                self.assertRegex(dict(found)["r-other"], "^[0-9a-f]{32}$")
                self.assertNotEqual(dict(found)["r-other"], TRACE)

    def test_metrics_tell_where_steps_spend_their_time(self):
        with Service(MODEL, ["--metrics-listen", "127.0.0.1:0"], shape=(2, 1),
                     worker_flags=["--threads", 1]) as service:
            address = re.search(r"http://\S+/metrics", service.log_text())[0]

            def metrics():
                with urllib.request.urlopen(address) as reply:
                    return reply.read().decode()

            def sampled():
                service.generate("--prompt", "A story:", "--max-tokens", 40, "--ignore-eos")
                text = metrics()
                return text if value(text, "kvec_step_collective_time_seconds_count") > 3 else None

            text = wait_until(sampled, "Steps to be sampled")
            steps = value(text, "kvec_step_time_seconds_count")
            self.assertGreaterEqual(steps, 2 * 40)
            self.assertLess(value(text, "kvec_step_collective_time_seconds_count"), steps / 4)
            seconds = {phase: value(text, f'kvec_step_phase_time_seconds_sum{{phase="{phase}"}}')
                       for phase in ("layers", "all-reduce", "head", "sample")}
            self.assertGreater(seconds["all-reduce"], 0)
            self.assertGreater(seconds["layers"], seconds["all-reduce"])
            self.assertGreaterEqual(value(text, "kvec_step_collective_time_seconds_sum"),
                                    seconds["all-reduce"])
            for rank in (0, 1):
                pages = sum(value(text, f'kvec_kv_pages{{stage="0",rank="{rank}",state="{state}"}}')
                            for state in ("used", "cached", "free"))
                self.assertEqual(pages, service.status()["workers"][rank]["total_pages"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
