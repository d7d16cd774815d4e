"""Targets that want TLS and a token."""

import concurrent.futures
import subprocess

import grpc
import pytest
from kvec.v1 import inference_pb2_grpc
from kvec_eval.access import Access, is_local
from test_run_and_report import run  # noqa: F401, a fixture

TOKEN = "kvec_of-the-test"


class TokenCheck(grpc.ServerInterceptor):
    def intercept_service(self, continuation, details):
        if ("authorization", f"Bearer {TOKEN}") in details.invocation_metadata:
            return continuation(details)

        def refuse(_, context):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "authorization: unknown")
        return grpc.unary_unary_rpc_method_handler(refuse)


def certificate(folder, name):
    """A certificate that vouches for itself, and its key."""
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", f"/CN={name}",
                    "-addext", f"subjectAltName=DNS:{name}", "-keyout", paths[1], "-out",
                    paths[0]], check=True, capture_output=True)
    return paths


@pytest.fixture
def guarded(tmp_path, inference):
    """(target, flags) of a server with TLS, known as kvec.test, that wants the token."""
    chain, key = certificate(tmp_path, "kvec.test")
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), interceptors=[TokenCheck()])
    inference_pb2_grpc.add_InferenceServicer_to_server(inference, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(
        [(key.read_bytes(), chain.read_bytes())]))
    server.start()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    yield f"127.0.0.1:{port}", {"--tls-ca": str(chain), "--tls-server-name": "kvec.test",
                                "--token-file": str(tmp_path / "token"),
                                "--retry-seconds": "0"}
    server.stop(None).wait()


def flat(flags):
    return [word for item in flags.items() for word in item]


def test_a_guarded_target_answers(run, guarded, inference):
    target, flags = guarded
    code, error = run(target, *flat(flags))
    assert code == 0, error
    assert len(inference.generated) > 0


def test_what_is_missing_is_told(run, guarded, tmp_path, monkeypatch):
    target, flags = guarded
    other, _ = certificate(tmp_path, "other.test")
    (tmp_path / "wrong").write_text("kvec_wrong")
    for changed, complaint in (({"--token-file": str(tmp_path / "wrong")}, "UNAUTHENTICATED"),
                               ({"--tls-ca": str(other)}, "UNAVAILABLE"),
                               ({"--tls-server-name": "elsewhere.test"}, "UNAVAILABLE"),
                               ({"--tls-ca": str(tmp_path / "none")}, "none"),
                               ({"--tls-cert": str(other)}, "--tls-key")):
        code, error = run(target, *flat({**flags, **changed}))
        assert code == 1
        assert complaint in error
        assert "kvec_wrong" not in error
    monkeypatch.setenv("KVEC_TOKEN", TOKEN)
    del flags["--token-file"]
    assert run(target, *flat(flags))[0] == 0


def test_a_token_leaves_this_machine_encrypted_only():
    with pytest.raises(ValueError, match="203.0.113.1:1 unencrypted"):
        Access(token=TOKEN).channel("203.0.113.1:1", [])
    assert TOKEN not in repr(Access(token=TOKEN))


@pytest.mark.parametrize("target,local", [
    ("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("unix:/run/kvec", True),
    ("0.0.0.0:1", False), ("kvec:50051", False), ("localhost.example.com:1", False)])
def test_local_targets_are_known(target, local):
    assert is_local(target) is local
