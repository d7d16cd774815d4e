"""Certificates of a test's own authorities, made with the openssl command."""

import pathlib
import subprocess

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
ECDSA = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class Authority:
    """ca = Authority(folder, "ca"); ca.issue("server") makes server.crt and server.key in folder."""

    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder)
        self.certificate = self.folder / f"{name}.crt"
        self.key = self.folder / f"{name}.key"
        _openssl("req", "-x509", *ECDSA, "-days", 1, "-subj", f"/CN={name}", "-keyout", self.key,
                 "-out", self.certificate)

    def issue(self, name, days=1):
        """Certificate and key; replaces what is there as a careful administrator does."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        new_certificate, new_key = certificate.with_suffix(".new"), key.with_suffix(".new-key")
        request, extension = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extension.write_text(NAMES)
        _openssl("req", *ECDSA, "-subj", f"/CN={name}", "-keyout", new_key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                 "-CAcreateserial", "-days", days, "-extfile", extension, "-out", new_certificate)
        new_key.rename(key)
        new_certificate.rename(certificate)
        return certificate, key
