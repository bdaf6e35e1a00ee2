#!/usr/bin/python3
"""The image and the pods, really built and run: make test-deploy.

    tests/deploy/test_containers.py [NAME...]      programs of the stand-in from $BUILD (build)

Needs root, podman, runc, mmdebstrap (group `deploy` of packages.txt). Nothing is fetched from an image registry: the base
is a Debian root made by mmdebstrap, kept as localhost/promptops-test-base until packages.txt changes.
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback

import yaml

import run as quick
from kubelet import POD_ADDRESS, Kubelet, run

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
IMAGE = "localhost/promptops-sidecar:test"
MANIFESTS = os.path.join(ROOT, "deploy", "kubernetes")
ONE_TOKEN, OTHER_TOKEN = "token-of-24-characters-1", "token-of-24-characters-2"
base = sources = None


def settle_podman(directory):
    """Where cgroups or limits are those of an unusual host (a container, a test machine), podman needs two settings."""
    files = subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True, check=True).stdout.strip()
    path = os.path.join(directory, "containers.conf")
    with open(path, "w") as out:
        out.write('[containers]\ndefault_ulimits=["nofile=%s:%s","nproc=32768:32768"]\n[engine]\nruntime="runc"\n' % (files, files))
    os.environ["CONTAINERS_CONF"] = path


def packages(*groups):
    with open(os.path.join(ROOT, "deploy", "packages.txt")) as rows:
        return [row.split()[1] for row in rows if row.split() and row.split()[0] in groups]


def make_base(directory):
    """A Debian root with what the build stage would install, so that builds need no network."""
    wanted = packages("build", "redirect")
    tag = "localhost/promptops-test-base:" + hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    if run("podman", "image", "exists", tag, check=False).returncode:
        print("  making the base image (a Debian root; about two minutes) ...", flush=True)
        path = os.path.join(directory, "base.tar")
        run("mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", "--include=" + ",".join(wanted), "bookworm", path, timeout=3600)
        run("podman", "import", "-q", path, tag, timeout=300)
        os.unlink(path)
    return tag


def take_sources(directory):
    """What is built: a copy, so that a file that is edited meanwhile does not make two builds differ."""
    path = os.path.join(directory, "sources")
    os.mkdir(path)
    run("sh", "-c", 'git -C "$1" ls-files -z -co --exclude-standard | (cd "$1" && xargs -0 ls -d 2>/dev/null) | tar -C "$1" -c -T - | tar -x -C "$2"', "sh", ROOT, path)
    return path


def build_image(tag, *more):
    run("podman", "build", "--network", "host", "--format", "docker", "--timestamp", "0", "--layers=false", "--build-arg", "BASE=" + base, "--build-arg", "VERSION=test",
        "-f", os.path.join(sources, "deploy", "Dockerfile"), "-t", tag, *more, sources, timeout=3600)


def digest(tag, directory):
    """Of the image's manifest in OCI form: all layers, and the configuration. (The docker form that podman builds holds the name of the
    container that it was built in, which is another each time.)"""
    path = os.path.join(directory, tag.replace("/", "-").replace(":", "-") + ".tar")
    run("podman", "save", "-q", "--format", "oci-archive", "-o", path, tag)
    return json.loads(run("tar", "-xOf", path, "index.json").stdout)["manifests"][0]["digest"]


# ---- the image ------------------------------------------------------------------------------------------------


def test_image_holds_what_it_says(_):
    image = json.loads(run("podman", "inspect", IMAGE).stdout)[0]
    size = image["Size"] / 1e6
    assert size < 40, "%.1f MB" % size
    print("  image: %.1f MB" % size)
    assert image["Config"]["User"] == "65532:65532", image["Config"]["User"]
    assert image["Config"]["Labels"]["org.opencontainers.image.title"] == "promptops-sidecar"
    assert image["HealthCheck" if "HealthCheck" in image else "Healthcheck"]["Test"][-1] == "--health"
    listing = run("podman", "run", "--rm", "--network", "none", "-v", "/:/host:ro", "--entrypoint", "/host/bin/ls", base, check=False)
    files = run("sh", "-c", "podman save --format docker-archive %s | tar -xO --wildcards '*.tar' | tar -t" % IMAGE, check=False).stdout.split("\n")
    for name in ("bin/sh", "bin/bash", "usr/bin/sh", "bin/busybox", "usr/bin/apt"):
        assert name not in files, "%s is in the image" % name
    assert any(f.endswith("ca-certificates.crt") for f in files), files
    assert listing is not None


def test_image_runs_with_nothing_allowed(_):
    hard = ["podman", "run", "--rm", "--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt", "no-new-privileges"]
    version = run(*hard, IMAGE, "--version").stdout
    assert version.startswith("promptops-sidecar "), version
    assert "configuration is good" in run(*hard, IMAGE, "--check").stdout
    assert run(*hard, "--entrypoint", "/bin/sh", IMAGE, "-c", "true", check=False).returncode != 0, "there is a shell"
    assert run(*hard, "--entrypoint", "/usr/bin/promptops-perf", IMAGE, "--help").returncode == 0


def test_image_tells_its_health(_):
    name = "promptops-health-%d" % os.getpid()
    run("podman", "run", "-d", "--name", name, "--network", "none", "--read-only", "--cap-drop=all", IMAGE, "--upstream", "http://127.0.0.1:1")
    try:
        end = time.monotonic() + 10
        while run("podman", "healthcheck", "run", name, check=False).returncode:
            assert time.monotonic() < end, run("podman", "logs", name, check=False).stderr
            time.sleep(0.2)
        run("podman", "stop", "-t", "20", name)
        assert run("podman", "wait", name).stdout.strip() == "0", "it did not stop cleanly"
    finally:
        run("podman", "rm", "-f", "-t", "0", name, check=False)


def test_image_is_reproducible(directory):
    """Built once more, compilation included, it is the same image."""
    build_image(IMAGE + "-again", "--no-cache")
    digests = [digest(tag, directory) for tag in (IMAGE, IMAGE + "-again")]
    assert digests[0] == digests[1], "two builds differ: %r" % digests
    print("  image, twice: %s" % digests[0])
    run("podman", "rmi", IMAGE + "-again", check=False)


# ---- pods -----------------------------------------------------------------------------------------------------


def pod_spec(folder, kind):
    """The PodSpec of the manifest of this kind, as kustomize gives it or as it lies there."""
    for name in sorted(os.listdir(os.path.join(MANIFESTS, folder))):
        if name.endswith(".yaml") and name != "sidecar.yaml":
            with open(os.path.join(MANIFESTS, folder, name)) as text:
                for document in yaml.safe_load_all(text):
                    if document.get("kind") == kind:
                        return document["spec"]["template"]["spec"]
    raise AssertionError("no %s in %s" % (kind, folder))


def sidecar_config(folder, **change):
    with open(os.path.join(MANIFESTS, folder, "sidecar.yaml")) as text:
        config = yaml.safe_load(text)
    for key, value in change.items():
        at, _, last = key.replace("__", ".").rpartition(".")
        target = config
        for part in filter(None, at.split(".")):
            target = target.setdefault(part, {})
        target[last] = value
    return json.dumps(config)


STAND_IN = {"name": "stand-in", "image": "base", "command": ["/promptops-origin", "--listen", "127.0.0.1:8000", "--control", "127.0.0.1:8001", "--no-limits",
                                                                "--api-key", "po_demoDemo0000000000000002:secret"],
            "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["/usr/bin/curl", "-sf", "http://127.0.0.1:8001/__control"]}},
            "testMounts": {os.path.join(BUILD, "promptops-origin"): "/promptops-origin"}}
ONE_CALL = 'curl -s -m 10 -o /dev/null -w "%{http_code}\\n" "$PROMPTOPS_BASE_URL/v1/client/prompts/prompt-$n"'


def pod(directory, name, spec, config, secret, certificate=None, config_name="promptops-sidecar"):
    images = {"base": base, "promptops-sidecar:0.1.0": IMAGE, "promptops-redirect:0.1.0": IMAGE + "-redirect",
              "registry.example/app:1.0.0": base, "registry.example/nightly:1.0.0": base}
    objects = {("ConfigMap", config_name): {"sidecar.yaml": config}, ("Secret", "promptops"): secret, ("Secret", "promptops-own-name"): certificate}
    return Kubelet("%s-%d" % (name, os.getpid()), spec, images, objects, directory)


def counts(kubelet):
    return json.loads(kubelet.inside("curl", "-sf", "-m", "5", "http://127.0.0.1:8001/__control").stdout)


def test_pod_of_the_deployment(directory):
    """The application talks through the sidecar; the secret is rolled; the admin port asks for the token; all drain in order."""
    spec = pod_spec("base", "Deployment")
    app = spec["containers"][0]
    # On TERM the application makes one more call and notes its status: the sidecar must still be there.
    app["command"] = ["/bin/sh", "-c", "trap 'n=95; echo last $(%s); exit 0' TERM; n=0; while :; do n=$((n %% 90 + 1)); echo $(%s); sleep 0.2 & wait $!; done" % (ONE_CALL, ONE_CALL)]
    spec["initContainers"].insert(0, STAND_IN)
    keys = {"api-key": "po_demoDemo0000000000000001", "admin-token": ONE_TOKEN}
    kubelet = pod(directory, "deployment", spec, sidecar_config("base", upstream__url="http://127.0.0.1:8000"), keys)
    sidecar = kubelet.container("promptops-sidecar")
    try:
        kubelet.start()
        kubelet.start_all()
        kubelet.wait_for(lambda: kubelet.logs("app").split().count("200") >= 3, "answers to the application")
        assert kubelet.probe(sidecar, "readinessProbe") and kubelet.probe(sidecar, "livenessProbe"), "probes fail"
        metrics = "http://%s:9901/metrics" % POD_ADDRESS
        status = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
        assert kubelet.inside(*status, metrics).stdout == "401", "no token is asked for"
        assert kubelet.inside(*status, "-H", "Authorization: Bearer " + ONE_TOKEN, metrics).stdout == "200", "the token is refused"
        assert kubelet.inside(*status, "-m", "2", "http://%s:8080/" % POD_ADDRESS, check=False).stdout == "000", "the proxy is reached from outside"
        kubelet.update("Secret", "promptops", {"api-key": "po_demoDemo0000000000000002", "admin-token": OTHER_TOKEN})
        kubelet.wait_for(lambda: "sent with another key" in kubelet.logs("promptops-sidecar"), "the new key to be used")
        before = kubelet.logs("app").split().count("200")
        kubelet.wait_for(lambda: kubelet.logs("app").split().count("200") >= before + 3, "answers after the roll")
        kubelet.wait_for(lambda: kubelet.inside(*status, "-H", "Authorization: Bearer " + OTHER_TOKEN, metrics).stdout == "200", "the new token")
        answers = kubelet.logs("app").split()
        assert set(answers) == {"200"}, "answers: %r" % set(answers)
        assert '"security"' not in kubelet.logs("promptops-sidecar"), "a system call was denied:\n" + kubelet.logs("promptops-sidecar")
        started = time.monotonic()
        codes = kubelet.stop()
        assert (codes["app"], codes["promptops-sidecar"]) == (0, 0), codes
        assert kubelet.logs("app").split()[-2:] == ["last", "200"], "the last call: %r" % kubelet.logs("app").split()[-3:]
        print("  drained in order in %.1f s" % (time.monotonic() - started))
    finally:
        kubelet.remove()


def test_pod_of_a_job_completes(directory):
    spec = pod_spec("job", "Job")
    work = spec["containers"][0]
    work["command"] = ["/bin/sh", "-c", "for n in 1 2 3; do code=$(%s); echo $code; [ $code = 200 ] || exit 1; done" % ONE_CALL]
    spec["initContainers"].insert(0, STAND_IN)
    kubelet = pod(directory, "job", spec, sidecar_config("job", upstream__url="http://127.0.0.1:8000"),
                  {"api-key": "po_demoDemo0000000000000001", "admin-token": ONE_TOKEN})
    try:
        kubelet.start()
        kubelet.start_all()
        assert kubelet.exit_code("nightly") == 0, kubelet.logs("nightly") + kubelet.logs("promptops-sidecar")
        kubelet.apps.clear()                 # all applications have ended: the kubelet stops the sidecars
        started = time.monotonic()
        codes = kubelet.stop()
        assert codes["promptops-sidecar"] == 0, codes
        print("  the sidecar ended %.1f s after the job" % (time.monotonic() - started))
    finally:
        kubelet.remove()


def rendered(directory, *settings):
    """The chart's objects as (kind, name): object, with the stand-in as the API."""
    objects = quick.template("config.upstream.url=http://127.0.0.1:8000", *settings).stdout
    return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(objects) if d}


def run_chart_pod(directory, name, spec, objects, application):
    """The pod's container `application` ends well; what it said."""
    spec["initContainers"].insert(0, STAND_IN)
    config = objects["ConfigMap", "release-sidecar"]["data"]["sidecar.yaml"]
    kubelet = pod(directory, name, spec, config, {"api-key": "po_demoDemo0000000000000001", "admin-token": ONE_TOKEN}, config_name="release-sidecar")
    try:
        kubelet.start()
        kubelet.start_all()
        assert kubelet.exit_code(application) == 0, kubelet.logs(application) + kubelet.logs("promptops-sidecar")
        return kubelet.logs(application)
    finally:
        kubelet.remove()


def test_pod_of_helm_test(directory):
    objects = rendered(directory)
    said = run_chart_pod(directory, "helm-test", objects["Pod", "release-test"]["spec"], objects, "ask")
    assert "requests" in said.lower(), said


def test_pod_that_was_injected(directory):
    """A pod that knows of no sidecar but its label, through the policy: it runs, and its call goes through the sidecar."""
    objects = rendered(directory, "injection.enabled=true", "workload=none")
    app = quick.bare_pod()
    app["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "curl -sfi -m 10 http://127.0.0.1:8080/v1/client/prompts/prompt-1"]
    made = quick.mutated([(objects["MutatingAdmissionPolicy", "release-space-inject"], app)])[0]
    said = run_chart_pod(directory, "injected", made["spec"], objects, "app")
    assert "Cache-Status: promptops-sidecar; fwd=" in said, said


def certificates(directory):
    """An authority, and a certificate of it for the API's name: what cert-manager would put into the Secret."""
    def openssl(*words):
        run("openssl", *words, cwd=directory)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=cluster", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=api.promptops.ai")
    with open(os.path.join(directory, "names"), "w") as out:
        out.write("subjectAltName=DNS:api.promptops.ai\n")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tls.crt", "-days", "2", "-extfile", "names")
    found = {}
    for name in ("tls.crt", "tls.key", "ca.crt"):
        os.chmod(os.path.join(directory, name), 0o644)
        with open(os.path.join(directory, name)) as text:
            found[name] = text.read()
    return found


def test_pod_with_the_apis_own_name(directory):
    with_name_of_the_api(directory, "own-name", upstream__connect_to=POD_ADDRESS + ":443")


def test_pod_with_transparent_redirect(directory):
    with_name_of_the_api(directory, "transparent")


def application_calls_the_apis_name(directory, folder, spec, config, secret):
    """It knows nothing of the sidecar, calls https://api.promptops.ai with the cluster's authority, and is answered by the
    sidecar, whose own call reaches the API at the pod's address."""
    stand_in = {**STAND_IN, "command": ["/promptops-origin", "--listen", POD_ADDRESS + ":443", "--control", "127.0.0.1:8001", "--no-limits",
                                        "--tls-cert", "/pki/tls.crt", "--tls-key", "/pki/tls.key"],
                "testMounts": {**STAND_IN["testMounts"], directory: "/pki"}, "securityContext": {"runAsUser": 0}}
    spec["initContainers"].insert(0, stand_in)
    app = spec["containers"][0]
    app["command"] = ["/bin/sh", "-c", 'curl -si -m 10 -H "Authorization: Bearer po_demoDemo0000000000000001" $PROMPTOPS_BASE_URL/v1/client/prompts/prompt-1']
    return pod(directory, folder, spec, config, {"api-key": "unused", "admin-token": ONE_TOKEN, "ca.crt": secret["ca.crt"]}, secret)


def with_name_of_the_api(directory, folder, **change):
    secret = certificates(directory)
    spec = next(d for d in yaml.safe_load_all(quick.kustomize(folder)) if d["kind"] == "Deployment")["spec"]["template"]["spec"]
    if folder == "transparent":                # where the cluster's DNS would say that the API is
        spec["hostAliases"] = [{"ip": POD_ADDRESS, "hostnames": ["api.promptops.ai"]}]
    config = sidecar_config(folder, upstream__tls__ca_file="/etc/promptops/secret/ca.crt", **change)
    kubelet = application_calls_the_apis_name(directory, folder, spec, config, secret)
    try:
        kubelet.start()
        kubelet.start_all()
        code = kubelet.exit_code("app")
        said = kubelet.logs("app")
        assert code == 0 and said.startswith("HTTP/1.1 200"), "%d\n%s\n%s" % (code, said, kubelet.logs("promptops-sidecar"))
        assert "Cache-Status: promptops-sidecar; fwd=" in said, "not through the sidecar:\n" + said
    finally:
        kubelet.remove()


def main():
    global base, sources
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="deploy-") as directory:
        os.chmod(directory, 0o755)
        settle_podman(directory)
        base = make_base(directory)
        sources = take_sources(directory)
        started = time.monotonic()
        build_image(IMAGE)
        build_image(IMAGE + "-redirect", "--target", "redirect", "--layers")
        print("  images built in %.0f s" % (time.monotonic() - started), flush=True)
        for name, test in list(globals().items()):
            if not name.startswith("test_") or (sys.argv[1:] and not any(n in name for n in sys.argv[1:])):
                continue
            own = os.path.join(directory, name)
            os.mkdir(own)
            started = time.monotonic()
            try:
                test(own)
                passed += 1
                print("  %s (%.1f s)" % (name, time.monotonic() - started), flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print("FAILED %s\n%s" % (name, traceback.format_exc(limit=-4)), flush=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
