"""Builds kvec-eval; the gRPC stubs of kvec/v1 are generated from the repository's protocol."""

import pathlib

from grpc_tools import protoc
from setuptools import setup
from setuptools.command.build_py import build_py

PROTO_ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        code = protoc.main([
            "protoc", f"-I{PROTO_ROOT}", f"--python_out={self.build_lib}",
            f"--grpc_python_out={self.build_lib}", "kvec/v1/inference.proto"])
        if code != 0:
            raise RuntimeError(f"protoc ended with {code}")


setup(cmdclass={"build_py": BuildWithStubs})
