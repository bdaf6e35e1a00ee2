"""An imitation of a kubelet that runs one Pod of a real manifest by podman, without a network: init containers in order,
native sidecars (restartPolicy: Always) with their startup probe, then the others; probes at an address of the pod; volumes
of ConfigMaps and Secrets as directories whose ..data link is swapped; at the end the applications first, then the sidecars
in reverse order. What it does not imitate: restarts with back-off, init containers that are retried, cgroup version 2.
"""
import os
import shutil
import subprocess
import time

POD_ADDRESS = "10.96.7.1"


def run(*words, check=True, timeout=120, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False, **more)
    if check and done.returncode:
        raise AssertionError("`%s` ended with %d:\n%s%s" % (" ".join(words), done.returncode, done.stdout[-2000:], done.stderr[-2000:]))
    return done


class Kubelet:
    def __init__(self, name, spec, images, objects, directory):
        """spec: a PodSpec. images: {image of the manifest: local image}. objects: {(kind, name): {key: text}}."""
        self.name = name
        self.spec = spec
        self.images = images
        self.objects = objects
        self.directory = directory
        self.versions = 0
        self.volumes = {v["name"]: self.make_volume(v) for v in spec.get("volumes", [])}
        self.hosts = os.path.join(directory, "hosts")      # a kubelet mounts it into every container
        with open(self.hosts, "w") as out:
            out.write("127.0.0.1 localhost\n::1 localhost\n")
            out.writelines("%s %s\n" % (a["ip"], " ".join(a["hostnames"])) for a in spec.get("hostAliases", []))
        self.sidecars = []
        self.apps = []

    # Volumes.

    def make_volume(self, volume):
        path = os.path.join(self.directory, "volumes", volume["name"])
        os.makedirs(path)
        os.chmod(path, 0o777 if "emptyDir" in volume else 0o755)
        if "configMap" in volume:
            self.project(path, self.objects["ConfigMap", volume["configMap"]["name"]])
        elif "secret" in volume:
            data = self.objects["Secret", volume["secret"]["secretName"]]
            items = volume["secret"].get("items")
            self.project(path, {i["path"]: data[i["key"]] for i in items} if items else data)
        elif "emptyDir" not in volume:
            raise AssertionError("no such volume here: %r" % volume)
        return path

    def project(self, path, data):
        """As a kubelet does: the files in a new directory, and the link to it swapped in one step."""
        self.versions += 1
        fresh = "..version-%d" % self.versions
        os.mkdir(os.path.join(path, fresh))
        for key, text in data.items():
            with open(os.path.join(path, fresh, key), "w") as out:
                out.write(text)
            os.chmod(os.path.join(path, fresh, key), 0o444)
            link = os.path.join(path, key)
            if not os.path.islink(link):
                os.symlink("..data/" + key, link)
        os.chmod(os.path.join(path, fresh), 0o755)
        os.symlink(fresh, os.path.join(path, "..data_tmp"))
        os.rename(os.path.join(path, "..data_tmp"), os.path.join(path, "..data"))

    def update(self, kind, name, data):
        self.objects[kind, name] = data
        for volume in self.spec.get("volumes", []):
            source = volume.get("configMap", {}).get("name") if kind == "ConfigMap" else volume.get("secret", {}).get("secretName")
            if source == name:
                self.project(self.volumes[volume["name"]], data)

    # Containers.

    def full_name(self, container):
        return "%s-%s" % (self.name, container["name"])

    def field(self, path):
        """The downward API."""
        return {"metadata.name": self.name, "metadata.namespace": "default", "metadata.uid": "6f1c0d0e-0000-4000-8000-000000000001", "spec.nodeName": "node-1",
                "status.podIP": POD_ADDRESS}[path]

    def create(self, container):
        security = {**self.spec.get("securityContext", {}), **container.get("securityContext", {})}
        words = ["podman", "create", "--pod", self.name, "--name", self.full_name(container)]
        if "runAsUser" in security:
            words += ["--user", "%d:%d" % (security["runAsUser"], security.get("runAsGroup", security["runAsUser"]))]
        if security.get("readOnlyRootFilesystem"):
            words += ["--read-only", "--read-only-tmpfs=false"]
        if security.get("allowPrivilegeEscalation") is False:
            words += ["--security-opt", "no-new-privileges"]
        capabilities = security.get("capabilities", {})
        words += ["--cap-drop=%s" % c.lower() for c in capabilities.get("drop", [])]
        words += ["--cap-add=%s" % c for c in capabilities.get("add", [])]
        words += ["-v", "%s:/etc/hosts:ro" % self.hosts]
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        if limit:
            words += ["-m", limit.replace("Mi", "m").replace("Gi", "g")]
        words += ["-e", "KUBERNETES_SERVICE_HOST=10.96.0.1"]
        for pair in container.get("env", []):
            words += ["-e", "%s=%s" % (pair["name"], pair["value"] if "value" in pair else self.field(pair["valueFrom"]["fieldRef"]["fieldPath"]))]
        for mount in container.get("volumeMounts", []):
            words += ["-v", "%s:%s%s" % (self.volumes[mount["name"]], mount["mountPath"], ":ro" if mount.get("readOnly") else "")]
        for host, path in container.get("testMounts", {}).items():
            words += ["-v", "%s:%s:ro" % (host, path)]
        command = list(container.get("args", []))
        if container.get("command"):
            words += ["--entrypoint", container["command"][0]]
            command = container["command"][1:] + command
        run(*words, self.images[container["image"]], *command)

    def start(self):
        sysctls = [w for s in self.spec.get("securityContext", {}).get("sysctls", []) for w in ("--sysctl", "%s=%s" % (s["name"], s["value"]))]
        run("podman", "pod", "create", "--name", self.name, "--network", "none", *sysctls)
        run("podman", "pod", "start", self.name)
        infra = run("podman", "pod", "inspect", "--format", "{{.InfraContainerID}}", self.name).stdout.strip()
        self.infra = run("podman", "inspect", "--format", "{{.State.Pid}}", infra).stdout.strip()
        self.inside("ip", "addr", "add", POD_ADDRESS + "/32", "dev", "lo")

    def start_all(self):
        for container in self.spec.get("initContainers", []):
            self.start_init(container)
        for container in self.spec["containers"]:
            self.create(container)
            run("podman", "start", self.full_name(container))
            self.apps.append(container)

    def start_init(self, container):
        self.create(container)
        if container.get("restartPolicy") == "Always":
            run("podman", "start", self.full_name(container))
            self.sidecars.append(container)
            self.wait_for(lambda: self.probe(container, "startupProbe"), "%s to start" % container["name"])
            return
        run("podman", "start", "-a", self.full_name(container), timeout=60)

    def inside(self, *words, **more):
        """A command of this machine in the pod's network."""
        return run("nsenter", "-t", self.infra, "-n", *words, **more)

    def port_of(self, container, port):
        return port if isinstance(port, int) else next(p["containerPort"] for p in container["ports"] if p["name"] == port)

    def probe(self, container, kind):
        """httpGet at the pod's address, as a kubelet asks; exec in the container."""
        probe = container[kind]
        if "exec" in probe:
            return run("podman", "exec", self.full_name(container), *probe["exec"]["command"], check=False).returncode == 0
        get = probe["httpGet"]
        url = "%s://%s:%d%s" % (get.get("scheme", "HTTP").lower(), POD_ADDRESS, self.port_of(container, get["port"]), get["path"])
        return self.inside("curl", "-sfk", "-o", "/dev/null", "-m", str(probe.get("timeoutSeconds", 1)), url, check=False).returncode == 0

    def container(self, name):
        return next(c for c in self.spec.get("initContainers", []) + self.spec["containers"] if c["name"] == name)

    def logs(self, name):
        done = run("podman", "logs", self.full_name(self.container(name)), check=False)
        return done.stdout + done.stderr

    def exit_code(self, name, timeout=60):
        return int(run("podman", "wait", self.full_name(self.container(name)), timeout=timeout).stdout.strip())

    def wait_for(self, condition, what, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("waited in vain for %s\n%s" % (what, "".join("-- %s:\n%s" % (c["name"], self.logs(c["name"])[-3000:]) for c in self.sidecars + self.apps)))
            time.sleep(0.1)

    def stop(self):
        """The order of a kubelet: applications, then native sidecars from the last to the first. {name: exit code}."""
        grace = str(self.spec.get("terminationGracePeriodSeconds", 30))
        codes = {}
        for container in self.apps + self.sidecars[::-1]:
            run("podman", "stop", "-t", grace, self.full_name(container), timeout=90)
            codes[container["name"]] = self.exit_code(container["name"])
        return codes

    def remove(self):
        run("podman", "pod", "rm", "-f", "-t", "0", self.name, check=False)
        shutil.rmtree(os.path.join(self.directory, "volumes"), ignore_errors=True)
