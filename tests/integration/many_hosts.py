"""Hosts for a test: network namespaces on one switch, each with an address of its own."""

import os
import subprocess
import uuid


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


class Network:
    """with Network(3) as network: network.unplug(2)"""

    def __init__(self, num_hosts):
        # Interfaces' names have 15 characters at most.
        name = f"kv{os.getpid() % 10000}{uuid.uuid4().hex[:3]}"
        self.switch = f"{name}s"
        self.hosts = [f"{name}h{i}" for i in range(num_hosts)]

    @staticmethod
    def is_possible():
        """Whether this process may make namespaces."""
        name = f"kvtry{uuid.uuid4().hex[:6]}"
        try:
            ip("netns", "add", name)
            ip("netns", "delete", name)
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def address(self, index):
        return f"10.77.0.{1 + index}"

    def __enter__(self):
        try:
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
            ip("-n", self.switch, "link", "set", "switch", "up")
            for i, host in enumerate(self.hosts):
                ip("netns", "add", host)
                ip("-n", self.switch, "link", "add", f"port{i}", "type", "veth", "peer", "name",
                   "eth0", "netns", host)
                ip("-n", self.switch, "link", "set", f"port{i}", "master", "switch", "up")
                ip("-n", host, "address", "add", f"{self.address(i)}/24", "dev", "eth0")
                ip("-n", host, "link", "set", "eth0", "up")
                ip("-n", host, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in [*self.hosts, self.switch]:
            subprocess.run(["ip", "netns", "delete", name], check=False,
                           stderr=subprocess.DEVNULL)

    def unplug(self, index):
        """Nothing comes through any more, and nobody is told."""
        ip("-n", self.switch, "link", "set", f"port{index}", "nomaster")

    def plug(self, index):
        ip("-n", self.switch, "link", "set", f"port{index}", "master", "switch")

    def disturb(self, *netem):
        """Every link from now on: disturb("delay", "2ms", "loss", "1%"). False where the kernel has no
        netem."""
        for i in range(len(self.hosts)):
            command = ["ip", "netns", "exec", self.switch, "tc", "qdisc", "replace", "dev",
                       f"port{i}", "root", "netem", *netem]
            if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0:
                return False
        return True
