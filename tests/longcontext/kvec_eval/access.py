"""How a target is reached: TLS and tokens, by the same flags as kvec's own."""

import dataclasses
import ipaddress
import os
import pathlib

import grpc

TOKEN_VARIABLE = "KVEC_TOKEN"


def add_flags(parser):
    group = parser.add_argument_group("security")
    group.add_argument("--tls", action="store_true",
                       help="encrypts the connection; the system's authorities vouch for targets")
    group.add_argument("--tls-ca", metavar="FILE",
                       help="the same, but those in this PEM file vouch for them")
    group.add_argument("--tls-cert", metavar="FILE",
                       help="PEM file with the certificate to show, and its chain")
    group.add_argument("--tls-key", metavar="FILE", help="PEM file with that certificate's key")
    group.add_argument("--tls-server-name", metavar="NAME",
                       help="name in the targets' certificates, where it is not the host")
    group.add_argument("--token-file", metavar="FILE",
                       help=f"file with the bearer token (the environment's {TOKEN_VARIABLE})")
    group.add_argument("--insecure", action="store_true",
                       help="sends the token to another machine although nothing is encrypted")


def is_local(target):
    """Whether only processes of this machine can be at HOST:PORT or unix:PATH."""
    if target.startswith("unix:"):
        return True
    host = target.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclasses.dataclass(frozen=True)
class Access:
    credentials: grpc.ChannelCredentials | None = None  # None: not encrypted
    server_name: str | None = None
    token: str = dataclasses.field(default="", repr=False)
    insecure: bool = False

    @classmethod
    def of(cls, options):
        """OSError or ValueError for what can't be used; neither repeats a token."""
        def contents(path):
            return pathlib.Path(path).read_bytes() if path else None

        if bool(options.tls_cert) != bool(options.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        credentials = None
        if options.tls or options.tls_ca or options.tls_cert:
            credentials = grpc.ssl_channel_credentials(
                contents(options.tls_ca), contents(options.tls_key), contents(options.tls_cert))
        token = os.environ.get(TOKEN_VARIABLE, "")
        if options.token_file:
            token = contents(options.token_file).decode("ascii", errors="replace")
        token = token.strip()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("the token has a space or another character that is not printable ASCII")
        return cls(credentials, options.tls_server_name, token, options.insecure)

    def channel(self, target, options):
        """ValueError where a token would leave this machine unencrypted."""
        if self.credentials is None:
            if self.token and not self.insecure and not is_local(target):
                raise ValueError(f"the token would go to {target} unencrypted: --tls or --tls-ca is "
                                 "missing, or --insecure")
            return grpc.aio.insecure_channel(target, options=options)
        if self.server_name:
            options = [*options, ("grpc.ssl_target_name_override", self.server_name)]
        return grpc.aio.secure_channel(target, self.credentials, options=options)

    def metadata(self):
        """What every call carries."""
        return [("authorization", f"Bearer {self.token}")] if self.token else []
