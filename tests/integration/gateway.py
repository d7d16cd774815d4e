"""The gateway smg in front of a service, and what the tests ask it."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import openai

from processes import DEADLINE_SECONDS, wait_until


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Gateway:
    """with Gateway([service.target]) as gateway: gateway.client.models.list()"""

    def __init__(self, targets, num_models=None):
        """targets: addresses of vLLM's engine protocol, each with a model name of its own unless
        num_models says how many names they have."""
        self.targets = targets
        self.num_models = num_models or len(targets)

    def __enter__(self):
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "smg", "launch",
             "--host", "127.0.0.1", "--port", str(port),
             "--worker-urls", *[f"grpc://{target}" for target in self.targets],
             "--prometheus-host", "127.0.0.1", "--prometheus-port", str(_free_port()),
             "--shutdown-grace-period-secs", "1"],
            stdout=self.log, stderr=self.log)
        # Retries would hide what the gateway answers.
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0,
                                    timeout=DEADLINE_SECONDS)
        try:
            wait_until(self._is_ready, "the gateway to know all models and their tokenizers")
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise
        return self

    def __exit__(self, error_type, error, traceback):
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if error_type is not None:
            self.log.seek(0)
            print(self.log.read().decode(errors="replace")[-4000:], file=sys.stderr)
        self.log.close()

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}")
        try:
            models = [model.id for model in self.client.models.list()]
            return len(models) == self.num_models and all(
                self.tokenize(model, "ready?") for model in models)
        except (openai.OpenAIError, urllib.error.URLError, ConnectionError):
            return False

    def tokenize(self, model, text):
        request = urllib.request.Request(
            f"{self.url}/v1/tokenize", headers={"content-type": "application/json"},
            data=json.dumps({"model": model, "prompt": text, "add_special_tokens": False}).encode())
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            return json.load(response)["tokens"]
