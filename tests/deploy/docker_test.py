"""deploy/docker: each image has the libraries that its program needs, and does not run as root."""

import functools
import pathlib
import re
import shutil
import subprocess
import unittest

import manifests
import tools

DOCKERFILE = tools.ROOT / "deploy" / "docker" / "Dockerfile"
# In every Debian.
BASE = {"libc6"}


def stages():
    """{name: (parent, text)} of the Dockerfile, lines joined where they go on."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", text, flags=re.MULTILINE)
    return {name: (parent, body)
            for parent, name, body in zip(parts[1::3], parts[2::3], parts[3::3])}


def lines(name):
    """The instructions of a stage and of the stages it comes from."""
    parent, body = stages()[name]
    inherited = lines(parent) if parent in stages() else []
    return inherited + [line for line in body.splitlines() if line]


def installed(name):
    """The packages that a stage installs."""
    found = set()
    for line in lines(name):
        for command in re.findall(r"apt-get install ([^&]*)", line):
            found |= {word for word in command.split() if not word.startswith("-")}
    return found


@functools.cache
def dependencies():
    """{package: what it depends on} of the packages installed here."""
    code, output = tools.run("dpkg-query", "--show",
                             "--showformat=${Package}\t${Pre-Depends}, ${Depends}\n")
    assert code == 0, output
    found = {}
    for line in output.splitlines():
        package, _, names = line.partition("\t")
        found[package] = set(re.findall(r"(?:^|[,|])\s*([a-z0-9][\w.+-]*)", names))
    return found


def libraries(image):
    """What Debian installs with an image's packages, of the packages that are here, too, where kvec
    was built."""
    found, new = set(BASE), installed(image)
    while new:
        found |= new
        new = set().union(*(dependencies().get(package, set()) for package in new)) - found
    return found


@functools.cache
def needed(program):
    """Debian's packages of the libraries that a program is linked to."""
    code, output = tools.run("ldd", tools.program(program))
    assert code == 0, output
    paths = {pathlib.Path(path) for path in re.findall(r"=> (/\S+)", output)}
    # /lib leads to /usr/lib; packages name either.
    spellings = [prefix + str(path).removeprefix("/usr") for path in paths
                 for prefix in ("", "/usr")]
    _, output = tools.run("dpkg", "--search", *spellings)
    owner_of = {library: package for package, library in
                re.findall(r"^([\w.+-]+):\S* \S*/(\S+)$", output, re.MULTILINE)}
    unowned = {path.name for path in paths} - set(owner_of)
    assert not unowned, f"{program}: no package has {unowned}"
    return set(owner_of.values())


class ImageTest(unittest.TestCase):

    def test_images_have_the_libraries_of_their_programs(self):
        for program, image in (("kvec-coordinator", "coordinator"), ("kvec", "coordinator"),
                               ("kvec-worker", "worker-cpu"), ("kvec-worker", "worker-cuda")):
            with self.subTest(f"{program} in {image}"):
                self.assertEqual(needed(program) - libraries(image), set())

    def test_notices_name_every_linked_package(self):
        programs = [tools.program(name) for name in ("kvec", "kvec-coordinator", "kvec-worker")]
        code, notices = tools.run(DOCKERFILE.with_name("third_party_notices.sh"), *programs)
        self.assertEqual(code, 0, notices[-500:])
        for program in ("kvec", "kvec-coordinator", "kvec-worker"):
            for package in needed(program):
                self.assertRegex(notices, rf"(?m)^{re.escape(package)} \S")
        for image in ("coordinator", "worker-cpu", "worker-cuda"):
            self.assertTrue(any("THIRD_PARTY_NOTICES" in line for line in lines(image)), image)

    def test_a_missing_library_is_noticed(self):
        self.assertFalse(needed("kvec-coordinator") <= libraries("worker-cpu"))

    def test_images_hold_what_the_manifests_start(self):
        images = {image: name for name in stages() for image in
                  re.findall(rf"--target {name} +-t (\S+)", DOCKERFILE.read_text())}
        entries = {"coordinator": "kvec-coordinator", "worker": "kvec-worker", "run": "kvec-eval",
                   "report": "kvec-eval"}
        for folder in manifests.DEPLOYMENTS:
            for name, template in manifests.pods(folder):
                for container in manifests.containers(template):
                    with self.subTest(f"{name}: {container['name']}"):
                        stage = lines(images[container["image"]])
                        if "command" in container:
                            self.assertTrue(any(line.startswith("COPY") and container["command"][0]
                                                in line for line in stage))
                        else:
                            entry = f'ENTRYPOINT ["{entries[container["name"]]}"]'
                            self.assertEqual(stage[-1], entry)

    def test_images_run_as_the_user_of_the_manifests(self):
        users = {template["spec"]["securityContext"]["runAsUser"]
                 for folder in manifests.DEPLOYMENTS for _, template in manifests.pods(folder)}
        self.assertEqual(users, {10001})
        for image in ("coordinator", "worker-cpu", "worker-cuda", "eval"):
            self.assertEqual([line for line in lines(image) if line.startswith("USER")],
                             ["USER 10001:10001"])

    def test_what_is_copied_is_there(self):
        for name in stages():
            for line in stages()[name][1].splitlines():
                words = line.split()
                if words and words[0] == "COPY" and not words[1].startswith("--from"):
                    for source in words[1:-1]:
                        self.assertTrue((tools.ROOT / source).exists(), source)

    @unittest.skipUnless(shutil.which("hadolint"), "no hadolint")
    def test_hadolint_has_no_complaint(self):
        done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    if shutil.which("dpkg") is None:
        tools.skip("no dpkg, which knows the packages of the libraries")
    tools.kubectl()
    for name in ("kvec", "kvec-coordinator", "kvec-worker"):
        tools.program(name)
    unittest.main(verbosity=2)
