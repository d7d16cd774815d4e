"""Who may talk to kvec: TLS, certificates of both sides, bearer tokens and join tokens, with real
processes and certificates; what they change while it runs; and that no secret comes into a log."""

import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import unittest

from certificates import Authority
from processes import wait_until
from service import DEADLINE_SECONDS, Service, model_path, read_to_end, start

MODEL = model_path("smollm2")
SHORT = ["--prompt", "A story:", "--max-tokens", 4, "--temperature", 0]
LONG = ["--prompt", "A very long story:", "--max-tokens", 800, "--ignore-eos", "--temperature", 0]


def run(program, *arguments, **popen):
    """Exit code, standard output and standard error of one of our programs, run to its end."""
    process = start(program, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True, **popen)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, out, err


class SecurityTest(unittest.TestCase):

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.ca = Authority(self.folder, "ca")
        self.other_ca = Authority(self.folder, "other-ca")

    def write(self, name, text):
        """A file that is replaced in one step."""
        path = self.folder / name
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)
        return path

    def make_token(self, name, tokens):
        """The file of a new token, whose line is added to `tokens`."""
        code, out, err = run("kvec", "token", "--name", name, "--append", tokens)
        self.assertEqual((code, err), (0, ""))
        return self.write(f"{name}.token", out)

    def server_tls(self, prefix="", client_ca=None):
        certificate, key = self.ca.issue(f"{prefix}server")
        flags = [f"--{prefix}tls-cert", certificate, f"--{prefix}tls-key", key]
        return flags + ([f"--{prefix}tls-client-ca", client_ca.certificate] if client_ca else [])

    def identity(self, authority, name):
        certificate, key = authority.issue(name)
        return ["--tls-cert", certificate, "--tls-key", key]

    def refused(self, service, code, *flags, says=""):
        """Runs a command without the service's own flags, which must fail."""
        own, service.client_flags = service.client_flags, ()
        try:
            error = service.kvec("generate", *SHORT, *flags, exit_code=1).stderr
        finally:
            service.client_flags = own
        self.assertIn(code, error)
        self.assertIn(says, error)

    def test_both_links_are_encrypted_and_know_their_peers(self):
        trust = ["--tls-ca", self.ca.certificate]
        client = trust + self.identity(self.ca, "client")
        stranger = trust + self.identity(self.other_ca, "stranger")
        with Service(MODEL, self.server_tls(client_ca=self.ca)
                     + self.server_tls("cluster-", client_ca=self.ca),
                     worker_flags=trust + self.identity(self.ca, "worker"),
                     client_flags=client) as service:
            self.assertNotEqual(service.generate(*SHORT)["text"], "")
            self.assertEqual(service.status()["workers"][0]["state"], "ready")
            self.refused(service, "UNAVAILABLE", *self.identity(self.ca, "client"),
                         "--tls-ca", self.other_ca.certificate, says="certificate verify failed")
            self.refused(service, "UNAVAILABLE", *trust)
            self.refused(service, "UNAVAILABLE", *stranger)
            self.refused(service, "UNAVAILABLE")
            self.refused(service, "UNAVAILABLE", "--tls", *self.identity(self.ca, "client"))
            # Workers try again until somebody puts it right, and say what is wrong.
            for flags, reason in (([], "detached from"), (trust, "detached from"),
                                  (stranger, "detached from"),
                                  (["--tls-ca", self.other_ca.certificate],
                                   "certificate verify failed")):
                with self.subTest(worker=flags):
                    worker = start("kvec-worker", "--model", MODEL, "--coordinator",
                                   service.cluster, *flags, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
                    line = ""
                    while reason not in line:
                        line = worker.stderr.readline()
                        self.assertNotEqual(line, "", "the worker ended")
                    worker.send_signal(signal.SIGTERM)
                    self.assertEqual(worker.wait(DEADLINE_SECONDS), 0)
                    worker.stderr.close()
            self.assertEqual(len(service.status()["workers"]), 1)
            self.assertNotEqual(service.generate(*SHORT)["text"], "")

    def test_new_certificates_are_shown_without_a_restart(self):
        trust = ["--tls-ca", self.ca.certificate]
        with Service(MODEL, self.server_tls() + self.server_tls("cluster-"), worker_flags=trust,
                     client_flags=trust) as service:
            stream = service.start_kvec("generate", *LONG)
            text = stream.stdout.read(20)
            self.ca, old = self.other_ca, self.ca
            self.server_tls()
            self.server_tls("cluster-")
            service.client_flags = ["--tls-ca", self.ca.certificate]

            def shown():
                flags = ["--target", service.target, *service.client_flags]
                return run("kvec", "status", *flags)[0] == 0

            wait_until(shown, "the new certificate")
            self.refused(service, "UNAVAILABLE", "--tls-ca", old.certificate)
            # What was open stays: the stream, and the worker, which knows only the old authority.
            self.assertGreater(len(text + read_to_end(stream)), 1000)
            self.assertNotEqual(service.generate(*SHORT)["text"], "")
            self.assertNotIn("detached", service.log_text())
            # The workers' port, too, shows the new one.
            worker = start("kvec-worker", "--model", MODEL, "--coordinator", service.cluster,
                           "--tls-ca", self.ca.certificate, stderr=subprocess.DEVNULL)
            service.workers.append(worker)
            wait_until(lambda: len(service.status()["workers"]) == 2, "the second worker")

    def test_clients_need_a_token_that_is_still_good(self):
        tokens = self.folder / "tokens.txt"
        alice = self.make_token("alice", tokens)
        bob = self.make_token("bob", tokens)
        self.assertNotIn(alice.read_text().strip(), tokens.read_text())
        socket_path = f"unix:{self.folder}/kvec.sock"
        with Service(MODEL, ["--tokens", tokens, "--local-listen", socket_path],
                     client_flags=["--token-file", alice]) as service:
            self.assertNotEqual(service.generate(*SHORT)["text"], "")
            self.refused(service, "UNAUTHENTICATED", says="wants a token")
            for name, text in (("wrong", "kvec_" + "A" * 43), ("prefix", bob.read_text()[:-2]),
                               ("hash", tokens.read_text().split()[0])):
                self.refused(service, "UNAUTHENTICATED", "--token-file", self.write(name, text),
                             says="not one that this server takes")
            # Waiting for health is open, telling more is not.
            code, _, err = run("kvec", "status", "--target", service.target, "--wait-ready", "10")
            self.assertEqual(code, 1)
            self.assertIn("UNAUTHENTICATED", err)
            self.assertNotIn("does not serve", err)
            # From the environment; and the port for those on the same machine asks for nothing.
            code, out, err = run("kvec", "generate", "--target", service.target, *SHORT,
                                 env={"KVEC_TOKEN": bob.read_text()})
            self.assertEqual(code, 0, err)
            self.assertEqual(run("kvec", "generate", "--target", socket_path, *SHORT)[1], out)

            stream = service.start_kvec("generate", *LONG)
            stream.stdout.read(20)
            self.write("tokens.txt", "# alice has left\n" + tokens.read_text().splitlines()[1])
            wait_until(lambda: run("kvec", "status", "--target", service.target, "--token-file",
                                   alice)[0] == 1, "the token to be revoked")
            self.refused(service, "UNAUTHENTICATED", "--token-file", alice)
            service.client_flags = ["--token-file", bob]
            self.assertNotEqual(service.generate(*SHORT)["text"], "")
            read_to_end(stream)  # what was begun may end
            # A mistake in the file revokes nobody, and is not repeated in the log.
            self.write("tokens.txt", alice.read_text())
            wait_until(lambda: "line 1" in service.log_text() or service.generate(*SHORT) is None,
                       "the mistake to be noticed")
            self.assertNotIn(alice.read_text().strip(), service.log_text())

    def test_workers_need_the_join_token(self):
        join = self.write("join.token", "join-" + "x" * 40 + "\n")
        with Service(MODEL, ["--join-token-file", join],
                     worker_flags=["--join-token-file", join]) as service:
            attach = ["--model", MODEL, "--coordinator", service.cluster]
            code, _, err = run("kvec-worker", *attach)
            self.assertEqual(code, 1)
            self.assertIn("wants a token", err)
            wrong = self.write("wrong.token", "join-" + "x" * 39 + "y")
            code, _, err = run("kvec-worker", *attach, "--join-token-file", wrong)
            self.assertEqual(code, 1)
            self.assertIn("not one that this server takes", err)
            self.assertNotIn("xxx", err)
            # The same on both sides from the environment.
            service.start_worker()
            wait_until(lambda: len(service.status()["workers"]) == 2, "the second worker")
        variable = {"KVEC_JOIN_TOKEN": "another-one"}
        with Service(MODEL, env=variable) as service:
            self.assertNotEqual(service.generate(*SHORT)["text"], "")
            self.assertEqual(run("kvec-worker", "--model", MODEL, "--coordinator",
                                 service.cluster)[0], 1)

    def test_what_is_reachable_is_protected_or_said_to_be_insecure(self):
        tls = self.server_tls()
        cluster_tls = self.server_tls("cluster-")
        tokens = self.write("tokens.txt", "")
        join = self.write("join.token", "join")
        known = ["--tokens", tokens]
        for flags, complaint in (
                (["--listen=0.0.0.0:0"], "--tls-cert is missing"),
                (["--listen=[::]:0", *known], "--tls-cert is missing"),
                (["--listen=0.0.0.0:0", *tls], "--tokens or --tls-client-ca is missing"),
                (["--cluster-listen=0.0.0.0:0"], "--cluster-tls-cert is missing"),
                (["--cluster-listen=0.0.0.0:0", "--join-token-file", join],
                 "--cluster-tls-cert is missing"),
                (["--cluster-listen=0.0.0.0:0", *cluster_tls], "--join-token-file"),
                (["--local-listen=0.0.0.0:0"], "is not on the loopback"),
                (["--local-listen=0.0.0.0:0", "--insecure"], "is not on the loopback"),
                (["--tls-cert", tls[1]], "--tls-key"),
                (["--tls-client-ca", tls[1]], "--tls-cert")):
            with self.subTest(flags):
                code, _, err = run("kvec-coordinator", "--model", MODEL, *flags)
                self.assertEqual(code, 2, err)
                self.assertIn(complaint, err)
        for flags, complaint in (
                (["--tokens", self.folder / "none"], "/none: cannot"),
                (["--tokens", self.write("bad", "x")], "/bad: line 1"),
                (["--join-token-file", self.write("empty", "")], "/empty: the token is empty"),
                (["--tls-cert", tls[1], "--tls-key", cluster_tls[3]], "is not the key")):
            with self.subTest(flags):
                code, _, err = run("kvec-coordinator", "--model", MODEL, "--listen=127.0.0.1:0",
                                   "--cluster-listen=127.0.0.1:0", *flags)
                self.assertEqual(code, 1, err)
                self.assertIn(complaint, err)
        # A token does not leave this machine unencrypted.
        code, _, err = run("kvec", "status", "--target", "203.0.113.1:1", "--token-file", join)
        self.assertEqual(code, 1)
        self.assertIn("unencrypted", err)

    def test_limits_hold(self):
        with Service(MODEL, ["--max-prompt-tokens", 100, "--max-request-mib", 0.1,
                             "--max-streams", 2]) as service:
            ids = ",".join(["5"] * 101)
            error = service.kvec("generate", "--token-ids", ids, exit_code=1).stderr
            self.assertIn("INVALID_ARGUMENT: prompt: 101 tokens, this server takes at most 100",
                          error)
            service.generate("--token-ids", ids[2:], "--max-tokens", 1)
            large = self.write("large", "word " * 50_000)
            error = service.kvec("generate", "--prompt-file", large, exit_code=1).stderr
            self.assertIn("RESOURCE_EXHAUSTED", error)

    def test_connections_that_say_nothing_or_nonsense_do_no_harm(self):
        tokens = self.folder / "tokens.txt"
        alice = self.make_token("alice", tokens)
        with Service(MODEL, [*self.server_tls(), "--tokens", tokens],
                     client_flags=["--tls-ca", self.ca.certificate, "--token-file",
                                   alice]) as service:
            host, _, port = service.target.rpartition(":")
            silent = [socket.create_connection((host, int(port))) for _ in range(200)]
            for text in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                         b"\x16\x03\x01\xff\xff" + b"\x00" * 70_000, b"\xff" * 1000):
                with socket.create_connection((host, int(port))) as rude:
                    try:
                        rude.sendall(text)
                    except OSError:
                        pass  # it has had enough already
            self.assertNotEqual(service.generate(*SHORT)["text"], "")
            silent[0].settimeout(DEADLINE_SECONDS)
            while silent[0].recv(4096):
                pass  # hung up on, after some frames perhaps
            for connection in silent:
                connection.close()
            self.assertNotEqual(service.generate(*SHORT)["text"], "")

    def test_no_secret_comes_into_a_log(self):
        tokens = self.folder / "tokens.txt"
        alice = self.make_token("alice", tokens)
        wrong = self.write("wrong.token", "kvec_wrongsecret")
        join = self.write("join.token", "join-secret-" + "z" * 30)
        noisy = {"GRPC_VERBOSITY": "DEBUG"}
        with Service(MODEL, ["--tokens", tokens, "--join-token-file", join, "--log-level", "debug",
                             "--max-prompt-tokens", 200],
                     worker_flags=["--join-token-file", join, "--log-level", "debug"],
                     client_flags=["--token-file", alice], env=noisy) as service:
            secret = ["--prompt", "The secretword is swordfish.", "--temperature", 0]
            answer = service.generate(*secret, "--max-tokens", 24, "--seed", 1)
            service.generate(*secret, "--max-tokens", 2, "--session", "s", "--stop", "stopsecret")
            service.generate(*secret, "--chat", "--max-tokens", 2)
            service.kvec("generate", *secret, "--max-tokens", 2, "--policy", "kvec", "--budget",
                         64)
            for bad in (["--max-tokens", 0], ["--policy", "none-such"], ["--stop", ""],
                        ["--continue-session", "--session", "none"]):
                service.kvec("generate", *secret, *bad, exit_code=1)
            service.kvec("generate", "--prompt", "swordfish " * 300, exit_code=1)
            self.refused(service, "UNAUTHENTICATED", "--token-file", wrong)
            self.refused(service, "UNAUTHENTICATED")
            stream = service.start_kvec("generate", *secret, "--max-tokens", 4000, "--ignore-eos")
            stream.stdout.read(10)
            service.kill_worker()  # the request is replayed
            service.start_worker()
            stream.stdout.read(200)
            stream.send_signal(signal.SIGINT)
            stream.wait(DEADLINE_SECONDS)
            stream.stdout.close()
            code, _, _ = run("kvec-worker", "--model", MODEL, "--coordinator", service.cluster,
                             "--join-token-file", wrong, "--log-level", "debug", env=noisy)
            self.assertEqual(code, 1)
            log = service.log_text()
            self.assertIn("prompt tokens", log)  # it is the verbose one
            secrets = ["swordfish", "secretword", "stopsecret", "wrongsecret", "join-secret",
                       alice.read_text().strip(), tokens.read_text().split()[0],
                       answer["text"].strip()[:12]]
            for text in secrets:
                self.assertNotIn(text, log)
            self.assertNotIn(json.dumps(answer["token_ids"][:4])[1:-1], log)


if __name__ == "__main__":
    unittest.main(verbosity=2)
