"""The images, built from these sources: what is in them, and that they answer a prompt together.

Takes long, so it runs only where KVEC_BUILD_IMAGES is set (tests/run.sh --images), as root, with a model
in KVEC_SMOLLM2_GGUF. KVEC_BUILD_IMAGES may name the images to build; else all but worker-cuda, whose
compiler is a download of a gigabyte."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import tools

BUILD = tools.ROOT / "deploy" / "docker" / "build.sh"
WANTED = os.environ.get("KVEC_BUILD_IMAGES")
MODEL = os.environ.get("KVEC_SMOLLM2_GGUF")
USER = 10001
# Half as much again as was measured (345, 302 and 724 MB): a compiler or the sources would be more.
MAX_BYTES = {"coordinator": 600 << 20, "worker-cpu": 600 << 20, "eval": 1200 << 20,
             "worker-cuda": 2500 << 20}
START_SECONDS = 60


def buildah(*arguments, **options):
    return subprocess.run(["buildah", *map(str, arguments)], check=True, text=True,
                          stdout=subprocess.PIPE, **options).stdout.strip()


class Container:
    """A container of an image, gone at the end."""

    def __init__(self, image, mounts=()):
        self.image = image
        self.mounts = [f"--volume={path}:{to}:ro" for path, to in mounts]
        self.processes = []

    def __enter__(self):
        self.name = buildah("from", "--pull=false", self.image)
        self.root = pathlib.Path(buildah("mount", self.name))
        return self

    def __exit__(self, *_):
        for process in self.processes:
            # What runs in the container is not ended with buildah alone.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        buildah("rm", self.name)

    def command(self, *arguments):
        # The loopback of this machine; no more rights than the build needed.
        return ["buildah", "run", "--isolation", "chroot", "--network", "host", *self.mounts, self.name,
                "--", *map(str, arguments)]

    def start(self, *arguments):
        process = subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, text=True,
                                   start_new_session=True)
        self.processes.append(process)
        return process

    def run(self, *arguments):
        return subprocess.run(self.command(*arguments), stdout=subprocess.PIPE, text=True, check=True,
                              timeout=START_SECONDS).stdout

    def config(self):
        return json.loads(buildah("inspect", "--type", "container", self.name))["OCIv1"]["config"]

    def written_files(self, newer_than):
        """What was written since, outside /tmp and what a container brings with itself."""
        found = subprocess.run(
            ["find", self.root, "-xdev", "-newer", newer_than, "-type", "f",
             "-not", "-path", f"{self.root}/tmp/*"], check=True, text=True,
            stdout=subprocess.PIPE).stdout.split()
        own = {"etc/resolv.conf", "etc/hosts", "etc/hostname", "run/.containerenv"}
        return {str(pathlib.Path(path).relative_to(self.root)) for path in found} - own


class ImagesTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        names = WANTED.split() if WANTED not in ("1", "yes") else []
        built = subprocess.run([str(BUILD), *names], check=True, text=True, stdout=subprocess.PIPE).stdout
        cls.images = {image.rpartition("kvec-")[2].partition(":")[0]: image for image in built.split()}

    def test_they_are_small_and_not_roots(self):
        for name, image in self.images.items():
            with self.subTest(name), Container(image) as container:
                size = json.loads(buildah("images", "--json", image))[0]["size"]
                print(f"{name}: {size}")
                number, unit = size.split()
                scale = {"KB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
                self.assertLess(float(number) * scale, MAX_BYTES[name])
                self.assertEqual(container.config()["User"], f"{USER}:{USER}")
                for tool in ("g++", "cmake", "git"):
                    self.assertFalse((container.root / "usr/bin" / tool).exists(), tool)

    def test_programs_start_and_say_their_version(self):
        versions = set()
        for name, program in (("coordinator", "kvec-coordinator"), ("coordinator", "kvec"),
                              ("worker-cpu", "kvec-worker"), ("worker-cuda", "kvec-worker")):
            if name in self.images:
                with self.subTest(f"{program} in {name}"), Container(self.images[name]) as container:
                    versions.add(container.run(program, "--version").split()[-1])
                    self.assertEqual(container.run("id", "-u").strip(), str(USER))
        self.assertEqual(len(versions), 1, versions)

    def test_notices_are_in_them(self):
        for name in set(self.images) - {"eval"}:
            with self.subTest(name), Container(self.images[name]) as container:
                notices = (container.root / "usr/share/doc/kvec/THIRD_PARTY_NOTICES").read_text()
                self.assertIn("libgrpc++1.51", notices)

    def test_they_answer_a_prompt_together_and_write_nothing(self):
        if not {"coordinator", "worker-cpu", "eval"} <= set(self.images):
            self.skipTest("not all images were asked for")
        model = pathlib.Path(MODEL)
        mounts = [(model.parent, "/models")]
        path = f"/models/{model.name}"
        with Container(self.images["coordinator"], mounts) as front, \
                Container(self.images["worker-cpu"], mounts) as back, \
                Container(self.images["eval"]) as evaluation, \
                tempfile.NamedTemporaryFile() as begin:
            coordinator = front.start("kvec-coordinator", "--model", path, "--listen", "127.0.0.1:0",
                                      "--cluster-listen", "127.0.0.1:0")
            words = coordinator.stdout.readline().split()
            self.assertEqual(words[:3], ["kvec-coordinator", "ready:", "inference"])
            target, cluster = words[3], words[5]
            back.start("kvec-worker", "--model", path, "--coordinator", cluster, "--threads", 2)
            front.run("kvec", "status", "--target", target, "--wait-ready", START_SECONDS // 2)
            text = front.run("kvec", "generate", "--target", target, "--prompt",
                             "The capital of France is", "--max-tokens", 8, "--temperature", 0)
            self.assertIn("Paris", text)
            self.assertIn("usage: kvec-eval", evaluation.run("kvec-eval", "--help"))
            for container in (front, back, evaluation):
                self.assertEqual(container.written_files(begin.name), set())


if __name__ == "__main__":
    if not WANTED:
        tools.skip("KVEC_BUILD_IMAGES is not set; tests/run.sh --images sets it")
    if os.geteuid() != 0:
        tools.skip("not root, which building images here wants")
    if not MODEL:
        tools.skip("KVEC_SMOLLM2_GGUF is not set; deploy/local/fetch_model.sh smollm2 prints a path")
    sys.stdout.reconfigure(line_buffering=True)
    unittest.main(verbosity=2)
